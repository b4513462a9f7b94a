"""What a model is made of and who can run it: in a terminal, as JSON, and as a page."""

from dioe_inspect.inspection import Inspection, inspect_model
from dioe_inspect.page import render_html
from dioe_inspect.text import render_text

__all__ = ["Inspection", "inspect_model", "render_html", "render_text"]
