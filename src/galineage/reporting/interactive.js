"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const get = (id) => document.getElementById(id);
  const canvas = get("map"), pen = canvas.getContext("2d"), hover = get("hover"), status = get("status");
  const n = data.x.length, names = data.columns.map((column) => column.name);
  const shownDomain = data.domains.map(() => true), pinned = [];
  let view = { x: 0, y: 0, scale: 1 }, whole = view, width = 1, height = 1, focus = -1, colours = [], drag = null;
  let matches = [], match = -1, asked = false;

  // --- numbers and cards: every text goes in as text, never as HTML
  function text(column, row) {
    const value = column.values[row];
    if (value === null) return "–";
    if (column.kind === "text") return String(value);
    const size = Math.abs(value);
    const written = size !== 0 && (size >= 1e6 || size < 1e-3) ? value.toExponential(3) : String(Number(value.toPrecision(4)));
    return written.replace("-", "−");
  }
  function element(kind, parent, words, name) {
    const made = document.createElement(kind);
    if (words !== undefined) made.textContent = words;
    if (name) made.className = name;
    if (parent) parent.appendChild(made);
    return made;
  }
  function picture(row, parent, size) {
    if (!data.sprites.length) return;
    const place = row % data.per_sprite, tile = data.tile, side = data.side, made = element("div", parent, undefined, "picture");
    const zoom = size / tile;
    made.style.width = made.style.height = size + "px";
    made.style.backgroundImage = 'url("' + data.sprites[Math.floor(row / data.per_sprite)] + '")';
    made.style.backgroundSize = side * tile * zoom + "px auto";
    made.style.backgroundPosition = -(place % side) * size + "px " + -Math.floor(place / side) * size + "px";
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", "Image of " + data.ids[row]);
  }
  function fill(card, row, size, close) {
    card.replaceChildren();
    const top = element("div", card, undefined, "top");
    picture(row, top, size);
    const name = element("div", top, data.ids[row], "name");
    element("span", name, data.domains[data.domain[row]], "domain");
    if (close) {
      const button = element("button", top, "×", "close");
      button.type = "button";
      button.setAttribute("aria-label", "Close the card of " + data.ids[row]);
      button.addEventListener("click", close);
    }
    const table = element("table", card), body = element("tbody", table);
    for (const column of data.columns) {
      const line = element("tr", body);
      element("th", line, column.name).scope = "row";
      element("td", line, text(column, row));
    }
  }

  // --- colours
  function ramp(share) {
    return data.ramp[Math.max(0, Math.min(data.ramp.length - 1, Math.floor(share * data.ramp.length)))];
  }
  function limits(column) {
    const known = column.values.filter((value) => value !== null).sort((a, b) => a - b);
    if (!known.length) return [0, 1];
    const at = (share) => known[Math.min(known.length - 1, Math.floor(share * known.length))];
    return at(0.98) > at(0.02) ? [at(0.02), at(0.98)] : [known[0] - 0.5, known[0] + 0.5];
  }
  function recolour() {
    const chosen = get("by").value, legend = get("legend");
    legend.replaceChildren();
    if (chosen === "") {
      colours = data.domain.map((index) => data.palette[index % data.palette.length]);
    } else {
      const column = data.columns[Number(chosen)], [low, high] = limits(column);
      colours = column.values.map((value) => (value === null ? "#c4c4c4" : ramp((value - low) / (high - low))));
      const bar = element("div", legend, undefined, "bar");
      element("span", bar, text({ kind: "number", values: [low] }, 0));
      element("span", bar, undefined, "ramp").style.background = "linear-gradient(to right, " + data.ramp.join(", ") + ")";
      element("span", bar, text({ kind: "number", values: [high] }, 0));
      element("div", legend, column.name + " (grey: unknown)");
    }
    data.domains.forEach((name, index) => {
      const label = element("label", legend), box = element("input", label);
      box.type = "checkbox";
      box.checked = shownDomain[index];
      box.addEventListener("change", () => { shownDomain[index] = box.checked; draw(); });
      const dot = element("span", label, undefined, "dot");
      if (chosen === "") dot.style.background = data.palette[index % data.palette.length]; else dot.style.display = "none";
      label.appendChild(document.createTextNode(name + " (" + data.counts[index].toLocaleString("en") + ")"));
    });
    draw();
  }

  // --- drawing
  const screenX = (row) => (data.x[row] - view.x) * view.scale + width / 2;
  const screenY = (row) => height / 2 - (data.y[row] - view.y) * view.scale;
  const seen = (row) => shownDomain[data.domain[row]];
  function radius() {
    return Math.max(1.6, Math.min(7, 2.4 * Math.sqrt(Math.sqrt((view.scale / whole.scale) * (4000 / Math.max(n, 400))))));
  }
  function ring(row, shade, extra) {
    pen.beginPath();
    pen.arc(screenX(row), screenY(row), radius() + extra, 0, 2 * Math.PI);
    pen.lineWidth = 2.5;
    pen.strokeStyle = shade;
    pen.stroke();
  }
  function paint() {
    asked = false;
    const dense = window.devicePixelRatio || 1, r = radius();
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.globalAlpha = 0.8;
    for (const row of data.order) {
      if (!seen(row)) continue;
      const x = screenX(row), y = screenY(row);
      if (x < -r || y < -r || x > width + r || y > height + r) continue;
      pen.fillStyle = colours[row];
      pen.beginPath();
      pen.arc(x, y, r, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
    for (const row of pinned) ring(row, "#222222", 3);
    if (focus >= 0) { ring(focus, "#ffffff", 5); ring(focus, "#d55e00", 3); }
  }
  function draw() {
    if (!asked) { asked = true; window.requestAnimationFrame(paint); }
  }
  function resize() {
    const box = get("stage").getBoundingClientRect(), dense = window.devicePixelRatio || 1, first = whole === view;
    width = Math.max(50, box.width);
    height = Math.max(50, box.height);
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
    const old = whole.scale;
    let low = [Infinity, Infinity], high = [-Infinity, -Infinity];
    for (let row = 0; row < n; row++) {
      low = [Math.min(low[0], data.x[row]), Math.min(low[1], data.y[row])];
      high = [Math.max(high[0], data.x[row]), Math.max(high[1], data.y[row])];
    }
    const scale = 0.9 * Math.min(width / Math.max(high[0] - low[0], 1e-9), height / Math.max(high[1] - low[1], 1e-9));
    whole = { x: (low[0] + high[0]) / 2, y: (low[1] + high[1]) / 2, scale };
    view = first ? whole : { ...view, scale: view.scale * (scale / old) };
    draw();
  }
  function zoom(factor, x, y) {
    const scale = Math.max(0.5 * whole.scale, Math.min(400 * whole.scale, view.scale * factor));
    const dx = (x - width / 2) * (1 / view.scale - 1 / scale), dy = (height / 2 - y) * (1 / view.scale - 1 / scale);
    view = { x: view.x + dx, y: view.y + dy, scale };
    showHover(-1);
    draw();
  }

  // --- which galaxy
  function nearest(x, y, reach) {
    let best = -1, least = reach * reach;
    for (let row = 0; row < n; row++) {
      if (!seen(row)) continue;
      const dx = screenX(row) - x, dy = screenY(row) - y, square = dx * dx + dy * dy;
      if (square <= least) { least = square; best = row; }
    }
    return best;
  }
  function showHover(row) {
    hover.hidden = row < 0;
    if (row < 0) return;
    fill(hover, row, 96);
    const x = screenX(row), y = screenY(row), box = hover.getBoundingClientRect();
    hover.style.left = Math.max(4, x + 14 + box.width > width ? x - box.width - 14 : x + 14) + "px";
    hover.style.top = Math.max(4, Math.min(y - 20, height - box.height - 6)) + "px";
  }
  function announce(row, before) {
    const facts = data.columns.slice(0, 3).map((column) => column.name + " " + text(column, row));
    status.textContent = [(before || "") + data.ids[row], data.domains[data.domain[row]], ...facts].join(", ");
  }
  function go(row, before) {
    focus = row;
    const x = screenX(row), y = screenY(row);
    if (x < 20 || y < 20 || x > width - 20 || y > height - 20) view = { ...view, x: data.x[row], y: data.y[row] };
    showHover(row);
    announce(row, before);
    draw();
  }
  function pin(row) {
    if (row < 0) return;
    const at = pinned.indexOf(row);
    if (at >= 0) { unpin(row); return; }
    pinned.unshift(row);
    const card = element("section", null, undefined, "card");
    card.dataset.row = row;
    card.setAttribute("aria-label", "Galaxy " + data.ids[row]);
    fill(card, row, 128, () => unpin(row));
    get("pins").prepend(card);
    announce(row, "Pinned ");
    draw();
  }
  function unpin(row) {
    const at = pinned.indexOf(row);
    if (at >= 0) pinned.splice(at, 1);
    for (const card of Array.from(get("pins").children)) if (card.dataset.row === String(row)) card.remove();
    status.textContent = "Card of " + data.ids[row] + " closed";
    draw();
  }
  function step(dx, dy) {
    if (focus < 0 || !seen(focus)) { const row = nearest(width / 2, height / 2, Infinity); if (row >= 0) go(row); return; }
    const x = screenX(focus), y = screenY(focus);
    let best = -1, least = Infinity;
    for (let row = 0; row < n; row++) {
      if (row === focus || !seen(row)) continue;
      const a = screenX(row) - x, b = screenY(row) - y, along = a * dx + b * dy, across = Math.abs(a * dy - b * dx);
      if (along <= 0 || across > along) continue;
      const cost = along + 2 * across;
      if (cost < least) { least = cost; best = row; }
    }
    if (best >= 0) go(best); else status.textContent = "No galaxy farther in this direction";
  }

  // --- what people do
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, view, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    if (drag) {
      const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
      if (drag.moved || Math.hypot(dx, dy) > 4) {
        drag.moved = true;
        canvas.classList.add("moving");
        view = { ...drag.view, x: drag.view.x - dx / view.scale, y: drag.view.y + dy / view.scale };
        showHover(-1);
        draw();
      }
      return;
    }
    const row = nearest(event.clientX - box.left, event.clientY - box.top, 14);
    if (row !== focus || hover.hidden !== row < 0) { focus = row; showHover(row); draw(); }
  });
  canvas.addEventListener("pointerup", (event) => {
    const box = canvas.getBoundingClientRect();
    if (drag && !drag.moved) pin(nearest(event.clientX - box.left, event.clientY - box.top, 14));
    drag = null;
    canvas.classList.remove("moving");
  });
  canvas.addEventListener("pointercancel", () => { drag = null; canvas.classList.remove("moving"); });
  canvas.addEventListener("pointerleave", () => { if (!drag) { focus = -1; showHover(-1); draw(); } });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    zoom(Math.exp(-0.0015 * event.deltaY * (event.deltaMode ? 20 : 1)), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) {
      view = { ...view, x: view.x + (60 * arrow[0]) / view.scale, y: view.y - (60 * arrow[1]) / view.scale };
      showHover(-1);
      draw();
    } else if (arrow) step(arrow[0], arrow[1]);
    else if (event.key === "Enter" || event.key === " ") pin(focus);
    else if (event.key === "+" || event.key === "=") zoom(1.3, width / 2, height / 2);
    else if (event.key === "-") zoom(1 / 1.3, width / 2, height / 2);
    else if (event.key === "0") home();
    else if (event.key === "Escape") { for (const row of pinned.slice()) unpin(row); focus = -1; showHover(-1); draw(); }
    else return;
    event.preventDefault();
  });
  function home() { view = whole; showHover(-1); draw(); }
  get("in").addEventListener("click", () => zoom(1.5, width / 2, height / 2));
  get("out").addEventListener("click", () => zoom(1 / 1.5, width / 2, height / 2));
  get("reset").addEventListener("click", home);
  get("by").addEventListener("change", recolour);
  get("find").addEventListener("input", () => { matches = []; match = -1; });
  get("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = get("find").value.trim().toLowerCase();
    if (!wanted) return;
    if (!matches.length) {
      const exact = [], parts = [];
      data.ids.forEach((id, row) => {
        const low = id.toLowerCase();
        if (low === wanted) exact.push(row); else if (low.includes(wanted)) parts.push(row);
      });
      matches = exact.concat(parts);
    }
    if (!matches.length) { status.textContent = "No identifier holds “" + get("find").value.trim() + "”"; return; }
    match = (match + 1) % matches.length;
    const row = matches[match];
    shownDomain[data.domain[row]] = true;
    recolour();
    view = { x: data.x[row], y: data.y[row], scale: Math.max(view.scale, 4 * whole.scale) };
    go(row, match + 1 + " of " + matches.length + ": ");
  });

  const by = get("by");
  element("option", by, "domain").value = "";
  data.columns.forEach((column, index) => {
    if (column.kind === "number") element("option", by, column.name).value = String(index);
  });
  window.addEventListener("resize", resize);
  resize();
  recolour();
  if (data.start !== null) { go(data.start); pin(data.start); }
})();
