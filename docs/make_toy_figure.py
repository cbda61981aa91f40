"""Draw docs/figures/toy_relations.png: the toy universe beside published relations."""

from pathlib import Path

from galineage.atomic import writing
from galineage.toy.compare import figure

if __name__ == "__main__":
    target = Path(__file__).parent / "figures" / "toy_relations.png"
    with writing(target) as path:
        figure().savefig(path, dpi=80)
    print(f"wrote {target}")
