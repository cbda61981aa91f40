"""The command line: parsing only; nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from galineage import __version__
from galineage.errors import GalineageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    _Group = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["main"]

_MODELS = (
    "mdn (fast), flow (as good or slightly better, slower), pool (mdn on subsets of the inputs: wider on other "
    "simulations), cinn or cinn-published (several targets jointly), paper, "
    "paper-bounded, or a baseline: spline, forest, boosting; from maps: maps, maps-cinn (several targets), maps-paper"
)


def _command(group: _Group, name: str, text: str, example: str) -> argparse.ArgumentParser:
    parser = group.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog="example:\n  " + example.replace("\n", "\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=name)
    return parser


def _table_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mapping", help="how to read the table: a shipped mapping or a TOML file (default: told by the file's name)"
    )
    parser.add_argument(
        "--rows", help="row filter of the mapping (default: the mapping's own, for example z0); of a store a domain"
    )


def _workers_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, default=0, help="processes (default: one per core)")


def _scheduler_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask scheduler, tcp://HOST:PORT, whose workers do the work"
    )


def _add_demo(group: _Group) -> None:
    demo = _command(
        group, "demo", "the whole way through on toy data, ending with a report", "galineage demo --out demo"
    )
    demo.add_argument("--out", default="demo", help="folder of the output (default: %(default)s)")
    demo.add_argument("--small", action="store_true", help="fewer galaxies and shorter training, for a first look")
    _workers_option(demo)


def _add_toy(group: _Group) -> None:
    toy = _command(
        group,
        "toy",
        "write a toy catalogue whose answers are known",
        "galineage toy --suite toy-a --n 5000 --seed 1 --out toy-a.fits\n"
        "galineage toy --suite toy-a --n 200 --box tng --out toy-box",
    )
    toy.add_argument("--suite", default="toy-a", help="toy-a, toy-b or toy-c (default: %(default)s)")
    toy.add_argument("--n", type=int, default=5000, help="number of galaxies (default: %(default)s)")
    toy.add_argument("--seed", type=int, default=1, help="of the random draws (default: %(default)s)")
    toy.add_argument("--stars", type=int, default=2000, help="of each galaxy (default: %(default)s)")
    toy.add_argument("--box", choices=("tng", "eagle"), help="write the stars, as a snapshot in these files' layout")
    toy.add_argument("--out", required=True, help="table file: .fits, .ecsv, .parquet or .vot; with --box a folder")


def _snapshot_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--snapshot", type=int, help="number of the snapshot, if there are several")
    parser.add_argument("--domain", help="what the run is called (default: the folder's name)")
    parser.add_argument("--export", help="EAGLE: comma-separated export of the database with the galaxies' frames")


def _add_prepare(group: _Group) -> None:
    prepare = _command(
        group,
        "prepare",
        "make maps of the galaxies of a snapshot and put them into a store; a stopped run goes on where it was",
        "galineage prepare TNG100-1/output --snapshot 99 --views tng --out maps\n"
        "galineage prepare snapshot_028_z000p000 --export galaxies.csv --views eagle --out maps",
    )
    prepare.add_argument(
        "snapshots", metavar="SNAPSHOT", help="folder of a TNG or Illustris run, or of an EAGLE snapshot"
    )
    _snapshot_options(prepare)
    prepare.add_argument(
        "--births", help="EAGLE: HDF5 file of where each star was first seen; with the export's trees it tells f_ex"
    )
    prepare.add_argument("--views", default="4", help="views of each galaxy, or the table of the paper: tng or eagle")
    prepare.add_argument("--rotate", action="store_true", help="turn each galaxy's cameras at random")
    prepare.add_argument("--pixels", type=int, default=128, help="on each side of a map (default: %(default)s)")
    prepare.add_argument("--half-width", type=float, default=2.0, help="of a map, in r_half (default: %(default)s)")
    prepare.add_argument(
        "--systemic",
        default="given",
        choices=("given", "bound", "inner"),
        help="whose velocity is taken off: the catalogue's, the most bound stars', the innermost stars'",
    )
    prepare.add_argument("--number", default="float32", choices=("float32", "float16"), help="of refined maps")
    prepare.add_argument("--mstar-min", type=float, default=1e10, help="smallest stellar mass, Msun (default: 1e10)")
    prepare.add_argument("--f-ex-min", type=float, default=0.0, help="smallest ex-situ fraction (default: 0)")
    prepare.add_argument("--f-ex-max", type=float, default=float("inf"), help="fractions from here on are left out")
    prepare.add_argument("--limit", type=int, default=0, help="only the first galaxies, for a look")
    prepare.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    prepare.add_argument("--workers", type=int, default=0, help="threads (default: 2)")
    _scheduler_option(prepare)
    prepare.add_argument("--out", required=True, help="folder of the store")


def _add_images(group: _Group) -> None:
    images = _command(
        group,
        "images",
        "make images ready for a network and put them into a store; a stopped run goes on where it was",
        "galineage images hsc-cutouts --bands hsc-g hsc-r hsc-i --domain HSC --out images\n"
        "galineage images TNG50-1/output --snapshot 99 --views 4 --redshift 0.05 0.2 --out images\n"
        "galineage images pictures.zip --pictures table.csv --bands sdss-g sdss-r sdss-i --pixel-scale 0.396 "
        "--out images",
    )
    images.add_argument("source", metavar="SOURCE", help="folder of images, pictures, or folder of a snapshot")
    _snapshot_options(images)
    images.add_argument("--births", help="EAGLE: HDF5 file of where each star was first seen")
    images.add_argument(
        "--bands", nargs="+", default=["hsc-g", "hsc-r", "hsc-i"], metavar="BAND", help="channels, bluest first"
    )
    images.add_argument("--pixels", type=int, default=128, help="on each side of an image (default: %(default)s)")
    images.add_argument(
        "--stretch",
        choices=("log", "joint", "colour"),
        help="band by band as published, with limits over all bands, or keeping colours (default: log)",
    )
    images.add_argument(
        "--fixed",
        type=float,
        nargs=2,
        metavar=("SOFT", "WHITE"),
        help="of --stretch colour: where it goes from linear to logarithmic, and what becomes 1, in nanomaggies per "
        "pixel, the same for all images: their brightness stays (for HSC at redshift 0.1: 0.003 1)",
    )
    images.add_argument("--table", help="what is known of the galaxies, by the files' names; others are skipped")
    _table_options(images)
    images.add_argument("--pixel-scale", type=float, metavar="ARCSEC", help="of files that do not say it")
    images.add_argument("--zero-point", type=float, metavar="MAG", help="AB, of files that do not say it")
    images.add_argument("--pictures", metavar="TABLE", help="PNG or JPEG pictures, and the table that names them")
    images.add_argument("--id", help="its column of identifiers (default: id)")
    images.add_argument("--file", help="its column of file names, or a pattern of columns (default: file)")
    images.add_argument("--views", type=int, help="of each galaxy of a snapshot (default: 2)")
    images.add_argument(
        "--redshift",
        type=float,
        nargs="+",
        metavar="Z",
        help="at which galaxies of a snapshot are seen, or a range (default: 0.1)",
    )
    images.add_argument("--fwhm", type=float, help="seeing of mocks, arcsec (default: 0.6)")
    images.add_argument("--noise", type=float, help="sky noise of mocks, in that of HSC Wide (default: 1)")
    images.add_argument("--skies", metavar="FOLDER", help="real pieces of sky with PSFs, in the place of noise")
    images.add_argument("--keep", metavar="FOLDER", help="write raw and observed images as FITS, too")
    images.add_argument(
        "--mstar-min", type=float, help="smallest stellar mass of a galaxy of a snapshot, Msun (default: 1e10)"
    )
    images.add_argument("--limit", type=int, default=0, help="only the first galaxies, for a look")
    images.add_argument("--seed", type=int, help="of everything random about mocks (default: 0)")
    images.add_argument("--workers", type=int, default=0, help="threads (default: 2)")
    _scheduler_option(images)
    images.add_argument("--out", required=True, help="folder of the store")


def _add_contrast(group: _Group) -> None:
    contrast = _command(
        group,
        "contrast",
        "learn a representation of images without any truth; a stopped training goes on where it was",
        "galineage contrast images --domains TNG50-1 HSC --probe mstar f_ex --hold-out 0.2 --out rep",
    )
    contrast.add_argument("images", metavar="IMAGES", help="store written by `galineage images`")
    contrast.add_argument("--domains", nargs="+", metavar="DOMAIN", help="whose images to learn from (default: all)")
    contrast.add_argument(
        "--encoder",
        default="representation",
        choices=("representation", "resnet18"),
        help="a small network, or one for GPUs (default: %(default)s)",
    )
    contrast.add_argument("--epochs", type=int, help="length of the training (default: 100; published 500)")
    contrast.add_argument("--batch-size", type=int, help="images in a step (default: 256; published 32)")
    contrast.add_argument("--queue", type=int, help="rows in which neighbours are looked for (default: 4096)")
    contrast.add_argument(
        "--variant",
        default="nnclr",
        choices=("nnclr", "published", "simclr"),
        help="neighbours in the queue (Dwibedi et al. 2021), those of the authors' code, or none (default: nnclr)",
    )
    contrast.add_argument("--temperature", type=float, help="cosines are divided by it (default: 0.1; published 0.04)")
    contrast.add_argument(
        "--probe", nargs="+", metavar="FIELD", help="infer these in passing from the nearest galaxies, to watch"
    )
    contrast.add_argument(
        "--hold-out", type=float, default=0.0, metavar="FRACTION", help="leave galaxies out, to test on (default: 0)"
    )
    contrast.add_argument("--seed", type=int, default=0, help="of everything random (default: %(default)s)")
    contrast.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    contrast.add_argument("--out", required=True, help="folder of the representation")


def _add_represent(group: _Group) -> None:
    represent = _command(
        group,
        "represent",
        "write the representations of images as tables, and draw a map of them",
        "galineage represent rep images --out tables --map map.html\n"
        "galineage represent rep images --domain HSC --out HSC.parquet",
    )
    represent.add_argument("representation", metavar="REP", help="folder written by `galineage contrast`")
    represent.add_argument("images", metavar="IMAGES", help="store written by `galineage images`")
    represent.add_argument("--domain", help="whose images (default: all)")
    represent.add_argument(
        "--out", required=True, help="folder of the tables, DOMAIN.parquet each; or, of one domain, a table file"
    )
    represent.add_argument("--map", metavar="PAGE", help="write a map to walk about in (.html)")
    represent.add_argument(
        "--properties", nargs="+", metavar="FIELD", help="what the map is coloured by (default: what is known of a few)"
    )
    represent.add_argument("--seed", type=int, default=0, help="of the map (default: %(default)s)")


def _add_run(group: _Group) -> None:
    run = _command(
        group,
        "run",
        "run a study from tables to report; a stopped run goes on where it was",
        "galineage run angeloudi2023-catalogue --data tables --out runs/angeloudi2023\ngalineage run --list",
    )
    run.add_argument("study", nargs="?", help="name of a shipped study, or a TOML file")
    run.add_argument("--list", action="store_true", help="list the shipped studies and end")
    run.add_argument("--data", help="folder with the tables that the study names")
    run.add_argument("--toys", type=int, default=0, metavar="N", help="N toy galaxies for each of its two simulations")
    run.add_argument("--small", action="store_true", help="shorter training, two members, for a first look")
    run.add_argument("--members", type=int, metavar="N", help="at most N networks in each ensemble")
    run.add_argument("--epochs", type=int, metavar="N", help="train for at most N epochs")
    run.add_argument("--out", help="folder of the output (default: runs/STUDY)")
    _workers_option(run)
    _scheduler_option(run)


def _add_train(group: _Group) -> None:
    train = _command(
        group,
        "train",
        "train an estimator on a table and save it as a bundle",
        "galineage train properties_tng.h5py --features mstar metallicity age r_half spin --model mdn --out model-tng\n"
        "galineage train my_table.parquet --target f_ex t_last_major --model cinn --out model-joint\n"
        "galineage train maps --rows TNG100-1 --model maps --channels mass velocity --aperture 1 --out model-maps\n"
        "galineage train TNG50-1.parquet --mapping galineage --features representation --target f_ex t_last_major "
        "--model cinn --out model",
    )
    train.add_argument("table", help="table of galaxies with known truth, or a store of their maps or images")
    _table_options(train)
    train.add_argument(
        "--features",
        nargs="+",
        metavar="FIELD",
        help="inputs (default: five stellar ones); `representation` stands for the columns of `galineage represent`",
    )
    train.add_argument(
        "--target",
        nargs="+",
        default=["f_ex"],
        metavar="FIELD",
        help="what to infer: a fraction in [0, 1] (default: f_ex); several, jointly, with --model cinn",
    )
    train.add_argument("--model", default="mdn", help=f"{_MODELS} (default: %(default)s)")
    train.add_argument("--members", type=int, help="networks in the ensemble (default: 5; pool: 5 per subset)")
    train.add_argument("--epochs", type=int, help="longest training (default: the model's own, mdn 500, maps 60)")
    train.add_argument("--channels", nargs="+", metavar="CHANNEL", help="maps that a map network sees (default: all)")
    train.add_argument("--aperture", type=float, help="radius in r_half that a map network sees (default: everything)")
    train.add_argument("--start", metavar="REP", help="a representation whose encoder a network for images starts from")
    train.add_argument("--seed", type=int, default=0, help="of weights, splits and batches (default: %(default)s)")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    train.add_argument(
        "--devices", type=int, default=1, metavar="N", help="GPUs of this machine that train a map network together"
    )
    train.add_argument("--out", required=True, help="folder of the bundle")


def _add_use(group: _Group) -> None:
    predict = _command(
        group,
        "predict",
        "apply a bundle to a table",
        "galineage predict model-tng my_galaxies.fits --mapping my_mapping.toml --out predictions.fits",
    )
    evaluate = _command(
        group,
        "evaluate",
        "test a bundle on a table whose truth is known",
        "galineage evaluate model-tng properties_eagle.h5py --out tng-on-eagle",
    )
    for parser, out in ((predict, "table file: .fits, .ecsv, .parquet or .vot"), (evaluate, "folder of the report")):
        parser.add_argument("bundle", help="folder written by `galineage train`")
        parser.add_argument("table", help="table of galaxies, or a store of their maps or images")
        _table_options(parser)
        parser.add_argument("--out", required=True, help=out)


def _add_adapt(group: _Group) -> None:
    adapt = _command(
        group,
        "adapt",
        "fit a bundle to the inputs of another survey or simulation, without its truth",
        "galineage adapt model-tng my_galaxies.fits --mapping my_mapping.toml --out model-adapted",
    )
    adapt.add_argument("bundle", help="folder written by `galineage train`")
    adapt.add_argument("table", help="table of galaxies; 40 or more with all inputs")
    _table_options(adapt)
    adapt.add_argument(
        "--kind",
        default="marginal",
        choices=("marginal", "at-mass"),
        help="match each input's distribution, or that at fixed stellar mass (default: %(default)s)",
    )
    adapt.add_argument(
        "--mass", default="match", choices=("match", "keep"), help="match stellar masses too, or not (default: match)"
    )
    adapt.add_argument(
        "--views",
        nargs="+",
        default=["raw", "matched"],
        choices=("raw", "matched"),
        help="what the model is asked about; the answers are pooled (default: raw matched)",
    )
    adapt.add_argument("--out", required=True, help="folder of the new bundle")


def _add_calibrate(group: _Group) -> None:
    calibrate = _command(
        group,
        "calibrate",
        "mend a bundle's error bars with galaxies whose truth is known and which it was not trained on",
        "galineage calibrate model-tng tng_held_out.h5py --out model-mended\n"
        "galineage calibrate model-tng tng_held_out.h5py --for my_galaxies.fits --method conformal --out model-mine",
    )
    calibrate.add_argument("bundle", help="folder written by `galineage train`")
    calibrate.add_argument("table", help="galaxies of the model's own domain, with truth, not used in training")
    _table_options(calibrate)
    calibrate.add_argument(
        "--for",
        dest="meant_for",
        metavar="TARGET_TABLE",
        help="galaxies that the model is meant for, without truth: the calibration galaxies are weighted to their mix",
    )
    calibrate.add_argument("--for-mapping", help="as --mapping, for the table after --for")
    calibrate.add_argument("--for-rows", help="as --rows, for the table after --for")
    calibrate.add_argument(
        "--method",
        default="pit",
        choices=("pit", "conformal", "cqr"),
        help="pit mends the posterior itself; conformal and cqr add intervals in columns of their own, at another "
        "level of the posterior or with moved ends (default: %(default)s)",
    )
    calibrate.add_argument("--seed", type=int, default=0, help="of the importance weights (default: %(default)s)")
    calibrate.add_argument("--out", required=True, help="folder of the new bundle")


def _add_look(group: _Group) -> None:
    report = _command(group, "report", "make the report of a finished run again", "galineage report runs/angeloudi2023")
    report.add_argument("run", help="folder of a run")
    report.add_argument("--data", help="folder with the tables, if it has moved since the run")
    inspect = _command(
        group,
        "inspect",
        "say what a table, a store, a bundle, a representation, a snapshot or one of its galaxies is, and draw it",
        "galineage inspect properties_tng.h5py --figure galaxies.png\ngalineage inspect model-tng\n"
        "galineage inspect TNG100-1/output --snapshot 99 --galaxy 394242 --figure galaxy.png",
    )
    inspect.add_argument("thing", help="table, store, bundle, representation, or folder of a snapshot")
    _snapshot_options(inspect)
    inspect.add_argument("--galaxy", help="identifier of one galaxy of a snapshot")
    inspect.add_argument(
        "--pixels", type=int, default=128, help="on each side of a galaxy's map (default: %(default)s)"
    )
    _table_options(inspect)
    inspect.add_argument("--figure", help="draw the columns, or the galaxy, into this file (.png or .pdf)")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="galineage",
        description="Infer how a galaxy was assembled from what can be observed, with honest error bars.",
        epilog="start with:\n  galineage demo --out demo\n\n`galineage COMMAND --help` has an example of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"galineage {__version__}")
    group = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (
        _add_demo,
        _add_toy,
        _add_prepare,
        _add_images,
        _add_contrast,
        _add_represent,
        _add_run,
        _add_train,
        _add_adapt,
        _add_use,
        _add_calibrate,
        _add_look,
    ):
        add(group)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0 done, 1 an error that was explained, 2 wrong usage, 130 stopped."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "command"):
        parser.print_help()
        return 2
    from galineage.cli import commands

    try:
        getattr(commands, options.command)(options)
    except GalineageError as error:
        print(f"galineage {options.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nstopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    return 0
