"""The pages. Each module is one page; `player/` holds the synchronised player."""
