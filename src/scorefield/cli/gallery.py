"""`scorefield gallery`: make a tutorial again, or list them."""

import inspect

from scorefield import gallery
from scorefield.cli import console, opening
from scorefield.cli.options import Gallery
from scorefield.gallery.report import write_results


def run(options: Gallery) -> None:
    """Run an entry of the gallery into a folder, or list the entries."""
    opening.start(options)
    if options.action == "list":
        print(*(f"{name:24}{entry.title}" for name, entry in gallery.ENTRIES.items()), sep="\n")
        return
    if options.name not in gallery.ENTRIES:
        raise ValueError(f"expected an entry of the gallery, one of {list(gallery.ENTRIES)}; got {options.name!r}")
    if options.full and "full" not in inspect.signature(gallery.ENTRIES[options.name].run).parameters:
        raise ValueError(f"expected an entry with a long form for --full; got {options.name!r}; leave --full out")
    if options.seeds < 1:
        raise ValueError(f"--seeds must be at least 1; got {options.seeds}")
    out = options.out
    if out is None:
        raise ValueError(f"expected a folder to write; got none; for example: --out {options.name}")
    if out.exists() and not out.is_dir():
        raise ValueError(f"expected a folder to write; {out} is a file; name another --out")
    if not options.force and out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; name another --out, or write into it with --force")
    longer = {"full": True} if options.full else {}
    write_results(gallery.ENTRIES[options.name].run(out, seeds=options.seeds, **longer), out / "results.json")
    console.speaker(options)(f"wrote figures, animations and results.json to {out}")
