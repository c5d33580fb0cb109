"""Words from outside on their way into a page."""


def plain(message: str) -> str:
    """A message for a place that renders Markdown or HTML, with nothing in it left to render."""
    escaped = message.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]()#!|~$" else letter for letter in escaped)
