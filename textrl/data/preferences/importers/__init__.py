"""Formats of other tools, one module each; `textrl.data.preferences.formats` lists them."""
