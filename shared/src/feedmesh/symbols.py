"""
What a symbol looks like, and which market it belongs to.

Clients of the first price contract name a bare symbol, ``AAPL`` or ``BTCUSD``; the
subjects name its market as well. The market therefore follows from the symbol alone,
by rules that every service shares:

* six characters that begin with a digit: a Korean short code (``005930``, ``0017J0``)
* two currency codes or spot metals in a row: foreign exchange (``EURUSD``, ``XAUUSD``)
* six or more characters that end in a quote currency: crypto (``BTCUSD``)
* all else: the US stock market (``AAPL``, ``BRK-B``), whose tickers are shorter
"""

from __future__ import annotations

import re
from typing import Literal


__all__ = ["MARKETS", "Market", "market_of", "parse_symbol"]

Market = Literal["us", "crypto", "fx", "kr"]

MARKETS: tuple[Market, ...] = ("us", "crypto", "fx", "kr")

# Long enough for every symbol that the feeds document; short enough for a subject.
_SYMBOL = re.compile(r"[A-Z0-9^][A-Z0-9.^=/-]{0,19}", re.ASCII)
_KOREAN = re.compile(r"[0-9][0-9A-Z]{5}", re.ASCII)
_CRYPTO = re.compile(r"[A-Z0-9]{2,16}(?:USD|USDT|USDC|EUR|GBP|BTC|ETH)", re.ASCII)

# Active ISO 4217 codes that brokers quote, and the metals that the forex feed carries.
_CURRENCIES = frozenset(
    "AED ARS AUD BGN BHD BRL CAD CHF CLP CNH CNY COP CZK DKK EGP EUR GBP HKD HUF IDR"
    " ILS INR ISK JPY KRW KWD KZT MAD MXN MYR NGN NOK NZD OMR PEN PHP PKR PLN QAR RON"
    " RSD RUB SAR SEK SGD THB TRY TWD UAH USD VND XAG XAU XPD XPT ZAR".split()
)


def parse_symbol(text: str) -> str:
    """
    Return *text* as a symbol, in upper case and without surrounding blanks.

    Raises:
        ValueError: If it cannot be a symbol; wildcards of NATS never can.
    """
    symbol = text.strip().upper()
    # Some letters of other alphabets become ASCII ones in upper case.
    if not text.isascii() or not _SYMBOL.fullmatch(symbol):
        raise ValueError("not a legal symbol")
    return symbol


def market_of(symbol: str) -> Market:
    """Return the market of *symbol*, which must come from :func:`parse_symbol`."""
    if _KOREAN.fullmatch(symbol):
        return "kr"
    if len(symbol) == 6 and symbol[:3] in _CURRENCIES and symbol[3:] in _CURRENCIES:
        return "fx"
    if len(symbol) >= 6 and _CRYPTO.fullmatch(symbol):
        return "crypto"
    return "us"
