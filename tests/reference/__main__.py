"""`python -m tests.reference`: write the pages that are made from the code."""

from tests.reference import DOCS, PAGES

for name, page in PAGES.items():
    (DOCS / name).write_text(page(), encoding="utf-8")
