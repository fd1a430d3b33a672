"""
Hours of exchanges, in UTC. Made by ``python tests/make_trading_hours.py``.

``usual <day> <opens> <closes>`` holds on weekdays from that day on; ``holiday <day>``
is closed all day; ``odd <day> <opens> <closes>`` has hours of its own.
"""

from __future__ import annotations

from typing import Final


__all__ = ["TABLE"]

TABLE: Final = """\
exchange XNYS 2024-01-01 2030-12-31
holiday 2024-01-01
usual 2024-01-02 14:30 21:00
holiday 2024-01-15
holiday 2024-02-19
usual 2024-03-11 13:30 20:00
holiday 2024-03-29
holiday 2024-05-27
holiday 2024-06-19
odd 2024-07-03 13:30 17:00
holiday 2024-07-04
holiday 2024-09-02
usual 2024-11-04 14:30 21:00
holiday 2024-11-28
odd 2024-11-29 14:30 18:00
odd 2024-12-24 14:30 18:00
holiday 2024-12-25
holiday 2025-01-01
holiday 2025-01-09
holiday 2025-01-20
holiday 2025-02-17
usual 2025-03-10 13:30 20:00
holiday 2025-04-18
holiday 2025-05-26
holiday 2025-06-19
odd 2025-07-03 13:30 17:00
holiday 2025-07-04
holiday 2025-09-01
usual 2025-11-03 14:30 21:00
holiday 2025-11-27
odd 2025-11-28 14:30 18:00
odd 2025-12-24 14:30 18:00
holiday 2025-12-25
holiday 2026-01-01
holiday 2026-01-19
holiday 2026-02-16
usual 2026-03-09 13:30 20:00
holiday 2026-04-03
holiday 2026-05-25
holiday 2026-06-19
holiday 2026-07-03
holiday 2026-09-07
usual 2026-11-02 14:30 21:00
holiday 2026-11-26
odd 2026-11-27 14:30 18:00
odd 2026-12-24 14:30 18:00
holiday 2026-12-25
holiday 2027-01-01
holiday 2027-01-18
holiday 2027-02-15
usual 2027-03-15 13:30 20:00
holiday 2027-03-26
holiday 2027-05-31
holiday 2027-06-18
holiday 2027-07-05
holiday 2027-09-06
usual 2027-11-08 14:30 21:00
holiday 2027-11-25
odd 2027-11-26 14:30 18:00
holiday 2027-12-24
holiday 2028-01-17
holiday 2028-02-21
usual 2028-03-13 13:30 20:00
holiday 2028-04-14
holiday 2028-05-29
holiday 2028-06-19
odd 2028-07-03 13:30 17:00
holiday 2028-07-04
holiday 2028-09-04
usual 2028-11-06 14:30 21:00
holiday 2028-11-23
odd 2028-11-24 14:30 18:00
holiday 2028-12-25
holiday 2029-01-01
holiday 2029-01-15
holiday 2029-02-19
usual 2029-03-12 13:30 20:00
holiday 2029-03-30
holiday 2029-05-28
holiday 2029-06-19
odd 2029-07-03 13:30 17:00
holiday 2029-07-04
holiday 2029-09-03
usual 2029-11-05 14:30 21:00
holiday 2029-11-22
odd 2029-11-23 14:30 18:00
odd 2029-12-24 14:30 18:00
holiday 2029-12-25
holiday 2030-01-01
holiday 2030-01-21
holiday 2030-02-18
usual 2030-03-11 13:30 20:00
holiday 2030-04-19
holiday 2030-05-27
holiday 2030-06-19
odd 2030-07-03 13:30 17:00
holiday 2030-07-04
holiday 2030-09-02
usual 2030-11-04 14:30 21:00
holiday 2030-11-28
odd 2030-11-29 14:30 18:00
odd 2030-12-24 14:30 18:00
holiday 2030-12-25
exchange XKRX 2024-01-01 2030-12-31
holiday 2024-01-01
odd 2024-01-02 01:00 06:30
usual 2024-01-03 00:00 06:30
holiday 2024-02-09
holiday 2024-02-12
holiday 2024-03-01
holiday 2024-04-10
holiday 2024-05-01
holiday 2024-05-06
holiday 2024-05-15
holiday 2024-06-06
holiday 2024-08-15
holiday 2024-09-16
holiday 2024-09-17
holiday 2024-09-18
holiday 2024-10-01
holiday 2024-10-03
holiday 2024-10-09
holiday 2024-12-25
holiday 2024-12-31
holiday 2025-01-01
odd 2025-01-02 01:00 06:30
holiday 2025-01-27
holiday 2025-01-28
holiday 2025-01-29
holiday 2025-01-30
holiday 2025-03-03
holiday 2025-05-01
holiday 2025-05-05
holiday 2025-05-06
holiday 2025-06-03
holiday 2025-06-06
holiday 2025-08-15
holiday 2025-10-03
holiday 2025-10-06
holiday 2025-10-07
holiday 2025-10-08
holiday 2025-10-09
holiday 2025-12-25
holiday 2025-12-31
holiday 2026-01-01
odd 2026-01-02 01:00 06:30
holiday 2026-02-16
holiday 2026-02-17
holiday 2026-02-18
holiday 2026-03-02
holiday 2026-05-01
holiday 2026-05-05
holiday 2026-05-25
holiday 2026-08-17
holiday 2026-09-24
holiday 2026-09-25
holiday 2026-10-05
holiday 2026-10-09
holiday 2026-12-25
holiday 2026-12-31
holiday 2027-01-01
odd 2027-01-04 01:00 06:30
holiday 2027-02-08
holiday 2027-02-09
holiday 2027-03-01
holiday 2027-05-05
holiday 2027-05-13
holiday 2027-08-16
holiday 2027-09-14
holiday 2027-09-15
holiday 2027-09-16
holiday 2027-10-04
holiday 2027-10-11
holiday 2027-12-27
holiday 2027-12-31
odd 2028-01-03 01:00 06:30
holiday 2028-01-26
holiday 2028-01-27
holiday 2028-01-28
holiday 2028-03-01
holiday 2028-05-01
holiday 2028-05-02
holiday 2028-05-05
holiday 2028-06-06
holiday 2028-08-15
holiday 2028-10-02
holiday 2028-10-03
holiday 2028-10-04
holiday 2028-10-05
holiday 2028-10-09
holiday 2028-12-25
holiday 2028-12-29
holiday 2029-01-01
odd 2029-01-02 01:00 06:30
holiday 2029-02-12
holiday 2029-02-13
holiday 2029-02-14
holiday 2029-03-01
holiday 2029-05-01
holiday 2029-05-07
holiday 2029-05-21
holiday 2029-06-06
holiday 2029-08-15
holiday 2029-09-21
holiday 2029-09-24
holiday 2029-10-03
holiday 2029-10-09
holiday 2029-12-25
holiday 2029-12-31
holiday 2030-01-01
odd 2030-01-02 01:00 06:30
holiday 2030-02-04
holiday 2030-02-05
holiday 2030-03-01
holiday 2030-05-01
holiday 2030-05-06
holiday 2030-05-09
holiday 2030-06-06
holiday 2030-08-15
holiday 2030-09-11
holiday 2030-09-12
holiday 2030-09-13
holiday 2030-10-03
holiday 2030-10-09
holiday 2030-12-25
holiday 2030-12-31
"""
