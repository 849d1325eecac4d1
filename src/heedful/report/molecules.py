"""Molecules as pictures, where RDKit is installed: as images, in which nothing of a text can run."""

from __future__ import annotations

import base64
import importlib.util

from markupsafe import Markup, escape

from heedful.data.molecule import molecule, package

WIDTH, HEIGHT = 240, 150


def shown(text: str) -> Markup:
    """The structure of SMILES or SELFIES; nothing for what is no molecule, nor without RDKit."""
    if importlib.util.find_spec("rdkit") is None or (found := molecule(text)) is None:
        return Markup("")
    pen = package("rdkit.Chem.Draw.rdMolDraw2D").MolDraw2DSVG(WIDTH, HEIGHT)
    pen.drawOptions().clearBackground = False
    pen.DrawMolecule(found)
    pen.FinishDrawing()
    image = base64.b64encode(pen.GetDrawingText().encode()).decode("ascii")
    return Markup(
        f'<img class="molecule" width="{WIDTH}" height="{HEIGHT}" alt="{escape(text.strip())}" '
        f'src="data:image/svg+xml;base64,{image}">'
    )
