"""The ledger: one Entry for every request, kept through kill -9, with exact money.

`sqlite.py` is the store (`journal.py` and `writer.py` under it, `tables.py` its schema); `prices.py` says what a
request cost and what that saved; `report.py` answers questions; `keys.py` holds the virtual keys.
"""

from trivet.ledger.keys import Key, KeyRing
from trivet.ledger.prices import Cost, Prices, savings
from trivet.ledger.report import Report, Row
from trivet.ledger.sqlite import SqliteStore, build, folder

__all__ = ["SqliteStore", "build", "folder", "Prices", "Cost", "savings", "Report", "Row", "Key", "KeyRing"]
