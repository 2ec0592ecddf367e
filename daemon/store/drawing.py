"""The process that draws Plotly figures: a browser kept warm, asked by `pictures`."""

import asyncio
import importlib.util
import json
import os
import shutil
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctxlib.images import THUMBNAIL_SIZE
from daemon.store.worker import serve

# Names of browsers that kaleido can use but does not look for by itself, the smallest first.
BROWSERS = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "google-chrome")
OPEN_SECONDS = 60.0
DRAW_SECONDS = 30.0
PLOTLY_SIZE = (700, 500)  # what Plotly draws where a figure says nothing


class Unavailable(Exception):
    """Nothing can be drawn here; says what is missing and how to get it."""


class Drawer:
    """A browser that is opened for the first figure, and again after one that it failed at."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._runner = asyncio.Runner()
        self._browser: Any = None

    def thumbnail(self, figure: Mapping[str, Any]) -> bytes:
        """Return the PNG, at most 300 pixels wide and high, of a figure given as its JSON."""
        try:
            return self._runner.run(self._draw(figure))
        except BaseException:
            # Whatever a figure has done to the page, it must not be the next one's trouble.
            self.close()
            raise

    def close(self) -> None:
        """End the browser."""
        browser, self._browser = self._browser, None
        if browser is not None:
            self._runner.run(browser.close())

    async def _draw(self, figure: Mapping[str, Any]) -> bytes:
        if self._browser is None:
            async with asyncio.timeout(OPEN_SECONDS):
                self._browser = await _open()
        layout = figure.get("layout") or {}
        sides = [
            layout.get(side) or usual
            for side, usual in zip(("width", "height"), PLOTLY_SIZE, strict=True)
        ]
        options = {"format": "png", "scale": THUMBNAIL_SIZE / max(sides)}
        png: bytes = await self._browser.calc_fig(dict(figure), opts=options)
        return png


async def _open() -> Any:
    if importlib.util.find_spec("plotly") is None:
        raise Unavailable("Plotly is not there, whose own script draws figures: install plotly")
    if "BROWSER_PATH" not in os.environ:
        found = next(filter(None, map(shutil.which, BROWSERS)), None)
        if found is not None:
            os.environ["BROWSER_PATH"] = found
    import kaleido
    from kaleido.kaleido import ChromeNotFoundError

    try:
        # No MathJax: it would be fetched from elsewhere, and nobody reads formulas at this size.
        browser = kaleido.Kaleido(n=1, timeout=DRAW_SECONDS, mathjax=False)
    except ChromeNotFoundError as error:
        raise Unavailable(
            "there is no browser: install chromium-headless-shell or chromium, or name one in the "
            "environment variable BROWSER_PATH"
        ) from error
    await browser.open()
    return browser


def figure_json(path: Path, name: str) -> dict[str, Any]:
    """Return the figure that variable `name` has in a fragment or run file.

    It is the value itself or, of a Cell, the preview. Raises KeyError when there is none.
    """
    import h5py

    from ctxlib.runfile import open_file

    with open_file(path) as file:
        for place in (f"{name}/data", f".preview/{name}", f".preview/{name}/data"):
            dataset = file.get(place)
            if not isinstance(dataset, h5py.Dataset):
                continue
            kind = dataset.attrs.get("_damnit_objtype", dataset.parent.attrs.get("_damnit_objtype"))
            if kind == "PlotlyFigure":
                figure: dict[str, Any] = json.loads(dataset[()].tobytes())
                return figure
    raise KeyError(f"{name} has no Plotly figure in {path}")


def main() -> None:
    """Answer requests {"path", "name"} with {"png"} or {"unavailable"}."""
    drawer = Drawer()

    def handle(request: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            figure = figure_json(Path(request["path"]), request["name"])
            return {"png": b64encode(drawer.thumbnail(figure)).decode()}
        except Unavailable as error:
            return {"unavailable": str(error)}

    try:
        serve(handle)
    finally:
        drawer.close()


if __name__ == "__main__":
    main()
