"""Tokens: which are believed, what they grant, and that nothing of them leaks."""

from __future__ import annotations

import base64
import json
import string
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from prometheus_client import CollectorRegistry
from starlette.requests import HTTPConnection

from edge.door.gate import Authenticator, AuthMetrics, TokenGate, authenticator
from edge.door.login import ANYONE, Login, login_of
from edge.door.tokens import AuthError, Identity, KeysError, Verifier, parse_keys
from edge.settings import Settings
from feedmesh.errors import SettingsError


NOW = 1_800_000_000.0
SECRET = b"a secret of thirty-two bytes, 32"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEYS = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def oct_jwk(secret: bytes = SECRET, **more: Any) -> dict[str, Any]:
    encoded = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
    return {"kty": "oct", "k": encoded, **more}


def rsa_jwk(key: Any = RSA_KEY, **more: Any) -> dict[str, Any]:
    return RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | more


def ec_jwk(algorithm: str = "ES256", **more: Any) -> dict[str, Any]:
    return ECAlgorithm.to_jwk(EC_KEYS[algorithm].public_key(), as_dict=True) | more


def ed_jwk(**more: Any) -> dict[str, Any]:
    return OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True) | more


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def verifier(*keys: Any, now: float = NOW, issuer: str | None = None) -> Verifier:
    return Verifier(parse_keys(key_set(*keys)), "feedmesh", issuer, lambda: now)


def claims(**more: Any) -> dict[str, Any]:
    """Return good claims, with *more*; None takes one out."""
    good = {"sub": "ann", "aud": "feedmesh", "exp": NOW + 60}
    return {k: v for k, v in (good | more).items() if v is not None}


def sign(
    key: Any = SECRET,
    algorithm: str = "HS256",
    header: dict[str, Any] | None = None,
    **more: Any,
) -> str:
    return jwt.encode(claims(**more), key, algorithm, headers=header)


def raw(header: Any, payload: Any, sign_with: bytes | None = None) -> str:
    """Return a token of these very parts, as no library would make it."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, payload)
    ]
    signature = b""
    if sign_with is not None:
        hmac = jwt.get_algorithm_by_name("HS256")
        signature = hmac.sign(b".".join(parts), sign_with)
    parts.append(base64.urlsafe_b64encode(signature).rstrip(b"="))
    return b".".join(parts).decode()


def reason(found: Verifier, token: str) -> str:
    with pytest.raises(AuthError) as caught:
        found.identify(token)
    return caught.value.reason


@pytest.mark.parametrize(
    ("jwk", "key", "algorithm"),
    [
        (oct_jwk(), SECRET, "HS256"),
        (rsa_jwk(), RSA_KEY, "RS256"),
        (rsa_jwk(alg="RS512"), RSA_KEY, "RS512"),
        (rsa_jwk(alg="PS256"), RSA_KEY, "PS256"),
        (ed_jwk(), ED_KEY, "EdDSA"),
        *((ec_jwk(name), EC_KEYS[name], name) for name in EC_KEYS),
    ],
)
def test_every_kind_of_key_verifies(
    jwk: dict[str, Any], key: Any, algorithm: str
) -> None:
    assert verifier(jwk).identify(sign(key, algorithm)).subject == "ann"


def test_a_token_grants_everything_unless_it_says_less() -> None:
    assert verifier(oct_jwk()).identify(sign()) == Identity("ann", NOW + 65)


def test_a_token_may_say_less() -> None:
    token = sign(symbols=["aapl", " MSFT"], max_symbols=2, channels=["prices"])

    identity = verifier(oct_jwk()).identify(token)

    assert identity.symbols == frozenset({"AAPL", "MSFT"})
    assert identity.max_symbols == 2
    assert identity.channels == frozenset({"prices"})
    assert identity.may_see("AAPL")
    assert not identity.may_see("TSLA")
    assert identity.may_use("prices")
    assert not identity.may_use("news")


def test_a_limit_only_ever_lowers() -> None:
    assert Identity("ann", NOW).limit(50) == 50
    assert Identity("ann", NOW, max_symbols=2).limit(50) == 2
    assert Identity("ann", NOW, max_symbols=99).limit(50) == 50
    assert Identity("ann", NOW, max_symbols=0).limit(50) == 0


def test_empty_lists_grant_nothing() -> None:
    identity = verifier(oct_jwk()).identify(sign(symbols=[], channels=[]))

    assert not identity.may_see("AAPL")
    assert not identity.may_use("prices")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"exp": None}, "claims"),
        ({"exp": "1900000000"}, "claims"),
        ({"exp": True}, "claims"),
        ({"exp": [NOW]}, "claims"),
        ({"exp": NOW - 5}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": -1e308}, "expired"),
        ({"nbf": NOW + 5.1}, "not_yet_valid"),
        ({"nbf": "now"}, "claims"),
        ({"aud": None}, "claims"),
        ({"aud": "other"}, "audience"),
        ({"aud": ""}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": ["other", "feedmesh2"]}, "audience"),
        ({"aud": {"feedmesh": 1}}, "claims"),
        ({"sub": None}, "claims"),
        ({"sub": ""}, "claims"),
        ({"sub": "x" * 257}, "claims"),
        ({"symbols": "AAPL"}, "claims"),
        ({"symbols": ["prices.>"]}, "claims"),
        ({"symbols": [1]}, "claims"),
        ({"max_symbols": -1}, "claims"),
        ({"max_symbols": 1.5}, "claims"),
        ({"max_symbols": True}, "claims"),
        ({"channels": "prices"}, "claims"),
    ],
)
def test_bad_claims_are_refused(more: dict[str, Any], expected: str) -> None:
    assert reason(verifier(oct_jwk()), sign(**more)) == expected


@pytest.mark.parametrize(
    "more",
    [
        {"exp": NOW - 4.9},
        {"exp": 1e300},
        {"nbf": NOW + 4.9},
        {"nbf": 0},
        {"aud": ["other", "feedmesh"]},
        {"iat": NOW - 60, "jti": "1", "iss": "somebody", "unheard_of": {"a": [1]}},
        {"max_symbols": 0},
    ],
)
def test_good_claims_are_not(more: dict[str, Any]) -> None:
    assert verifier(oct_jwk()).identify(sign(**more)).subject == "ann"


def test_the_issuer_counts_if_one_is_asked_for() -> None:
    strict = verifier(oct_jwk(), issuer="https://id.example")

    assert strict.identify(sign(iss="https://id.example")).subject == "ann"
    assert reason(strict, sign(iss="https://id.example/")) == "issuer"
    assert reason(strict, sign()) == "issuer"


@pytest.mark.parametrize("name", ["none", "None", "NONE", ""])
def test_an_unsigned_token_is_refused(name: str) -> None:
    header = {"typ": "JWT", "alg": name}

    for keys in ([oct_jwk()], [rsa_jwk()], [rsa_jwk(), oct_jwk()]):
        unsigned = raw(header, claims())
        assert reason(verifier(*keys), unsigned) == "malformed"
        assert reason(verifier(*keys), unsigned + "AA") == "algorithm"


def public_forms(key: Any) -> list[bytes]:
    """Return what an attacker who knows a public key may take for a secret."""
    public = key.public_key()
    info = PublicFormat.SubjectPublicKeyInfo
    forms = [public.public_bytes(encoding, info) for encoding in (Encoding.PEM,)]
    forms += [public.public_bytes(Encoding.DER, info)]
    forms += [public.public_bytes(Encoding.PEM, info).strip()]
    return forms


@pytest.mark.parametrize("key", [RSA_KEY, EC_KEYS["ES256"], ED_KEY])
def test_a_public_key_is_never_taken_for_a_secret(key: Any) -> None:
    jwks = {RSA_KEY: rsa_jwk(), EC_KEYS["ES256"]: ec_jwk(), ED_KEY: ed_jwk()}
    forms = [*public_forms(key), json.dumps(jwks[key]).encode()]
    forms += [base64.urlsafe_b64decode(jwks[key].get(part, "") + "==") for part in "nx"]

    for form in forms:
        forged = raw({"alg": "HS256"}, claims(), sign_with=form)
        assert reason(verifier(jwks[key]), forged) == "algorithm"
        # Beside an honest secret, too.
        assert reason(verifier(jwks[key], oct_jwk()), forged) == "signature"


def test_the_algorithm_is_that_of_the_key() -> None:
    only = verifier(rsa_jwk(alg="RS256"))

    for name in ("RS384", "RS512", "PS256", "PS512"):
        assert reason(only, sign(RSA_KEY, name)) == "algorithm"
    assert only.identify(sign(RSA_KEY, "RS256")).subject == "ann"


@pytest.mark.parametrize("name", ["HS384", "HS512"])
def test_a_secret_knows_only_one_algorithm(name: str) -> None:
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = sign(SECRET, name)

    assert reason(verifier(oct_jwk()), token) == "algorithm"


def test_a_key_in_the_token_is_not_believed() -> None:
    mine = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    header = {
        "jwk": rsa_jwk(mine),
        "jku": "http://127.0.0.1/keys",
        "x5u": "http://127.0.0.1/cert",
    }

    assert reason(verifier(rsa_jwk()), sign(mine, "RS256", header)) == "signature"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"kid": "b"}, "signature"),
        ({"kid": "c"}, "unknown_key"),
        ({"kid": "../../a"}, "unknown_key"),
        ({"crit": ["exp"], "exp": 1}, "malformed"),
        ({"crit": []}, "malformed"),
        ({"crit": ["b64"], "b64": False}, "malformed"),
        ({"alg": None}, "algorithm"),
        ({"alg": ["HS256"]}, "algorithm"),
        ({"kid": 1}, "malformed"),
        ({"kid": {"a": 1}}, "malformed"),
    ],
)
def test_bad_headers_are_refused(header: dict[str, Any], expected: str) -> None:
    both = verifier(oct_jwk(kid="a"), oct_jwk(b"b" * 32, kid="b"))
    token = raw({"alg": "HS256"} | header, claims(), sign_with=SECRET)

    assert reason(both, token) == expected


@pytest.mark.parametrize("header", [{}, {"kid": "a"}])
def test_a_key_is_found_by_its_name_or_by_trying(header: dict[str, Any]) -> None:
    both = verifier(oct_jwk(b"b" * 32, kid="b"), ec_jwk(kid="a"), oct_jwk(kid="a"))

    assert both.identify(sign(header=header)).subject == "ann"


def test_a_key_without_a_name_fits_every_name() -> None:
    assert verifier(oct_jwk()).identify(sign(header={"kid": "x"})).subject == "ann"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d.e",
        sign() + "=",
        sign() + "\n",
        " " + sign(),
        sign().replace(".", "..", 1),
        sign(padding="x" * 9000),
        "é.é.é",
        "\ud800.a.b",
        raw([1], claims(), SECRET),
        raw("x", claims(), SECRET),
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert reason(verifier(oct_jwk()), token) == "malformed"


@pytest.mark.parametrize("payload", [None, [], "x", 1, {}, {"exp": 10**400}])
def test_a_signed_payload_that_holds_no_claims_is_refused(payload: Any) -> None:
    assert reason(verifier(oct_jwk()), raw({"alg": "HS256"}, payload, SECRET)) == (
        "claims"
    )


def test_a_signed_bomb_is_refused() -> None:
    parts = [b'{"alg":"HS256"}', b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}"]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = jwt.get_algorithm_by_name("HS256").sign(text, SECRET)
    token = (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()

    assert reason(verifier(oct_jwk()), token) == "claims"


EVERY_KEY = verifier(oct_jwk(), rsa_jwk(), ec_jwk(), ed_jwk())
GOOD_TOKENS = [
    sign(),
    sign(RSA_KEY, "RS256"),
    sign(EC_KEYS["ES256"], "ES256"),
    sign(ED_KEY, "EdDSA"),
]


@given(st.text() | st.text(string.ascii_letters + "._-"))
def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(AuthError):
        EVERY_KEY.identify(text)


@given(st.sampled_from(GOOD_TOKENS), st.data())
def test_one_changed_character_spoils_a_token(token: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(
        st.sampled_from(sorted(set(string.ascii_letters + "._-") - {token[at]}))
    )
    assert EVERY_KEY.identify(token).subject == "ann"

    with pytest.raises(AuthError):
        EVERY_KEY.identify(token[:at] + other + token[at + 1 :])


@given(st.binary())
def test_a_signature_of_any_bytes_is_refused(signature: bytes) -> None:
    encoded = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
    for token in GOOD_TOKENS:
        with pytest.raises(AuthError):
            EVERY_KEY.identify(token.rpartition(".")[0] + "." + encoded)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "aud", "nbf", "symbols", "max_symbols"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=9)
        | st.lists(st.text(max_size=9), max_size=3),
    )
)
def test_any_signed_claims_are_an_identity_or_refused(more: dict[str, Any]) -> None:
    token = raw({"alg": "HS256"}, claims() | more, SECRET)
    try:
        identity = EVERY_KEY.identify(token)
    except AuthError:
        return
    assert identity.subject
    assert identity.expires_at > NOW


def test_errors_hold_nothing_of_a_token_or_a_key() -> None:
    for token in (sign(exp=1), sign(b"b" * 32), sign() + "x", sign(symbols=["§"])):
        with pytest.raises(AuthError) as caught:
            verifier(oct_jwk()).identify(token)
        text = "".join(traceback.format_exception(caught.value))
        for part in token.split("."):
            assert part not in text
        assert "ann" not in str(caught.value)


PRIVATE_RSA = RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True) | {"key_ops": None}
SHORT_RSA = rsa_jwk(n=base64.urlsafe_b64encode(b"\xc5" + b"\x01" * 127).decode())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "is not a JWK set"),
        (b"-----BEGIN PUBLIC KEY-----", "is not a JWK set"),
        (b"\xff\xfe", "is not a JWK set"),
        (b"[" * 5000, "is not a JWK set"),
        (b"null", "is not a JWK set"),
        (b"[]", "is not a JWK set"),
        (b'{"keys": 1}', "is not a JWK set"),
        (key_set("x"), "is not a JWK set"),
        (json.dumps(oct_jwk()).encode(), "is not a JWK set"),
        (key_set(), "holds no"),
        (key_set({}), "holds no"),
        (key_set({"kty": ["RSA"]}), "holds no"),
        (key_set({"kty": "XMSS"}), "holds no"),
        (key_set(oct_jwk(use="enc")), "holds no"),
        (key_set(oct_jwk(key_ops=["sign"])), "holds no"),
        (key_set(oct_jwk(alg="none")), "holds no"),
        (key_set(oct_jwk(alg="RS256")), "holds no"),
        (key_set(oct_jwk(alg=["HS256"])), "holds no"),
        (key_set(rsa_jwk(alg="HS256")), "holds no"),
        (key_set(ec_jwk(alg="ES512")), "holds no"),
        (key_set(ec_jwk(crv="secp256k1")), "holds no"),
        (key_set(oct_jwk(b"short")), "too short"),
        (key_set(SHORT_RSA), "too short"),
        (key_set({"kty": "oct"}), "broken"),
        (key_set({"kty": "oct", "k": 5}), "broken"),
        (key_set({"kty": "oct", "k": ""}), "broken"),
        (key_set({"kty": "RSA", "n": "AQAB"}), "broken"),
        (key_set(ec_jwk(x="AQAB")), "broken"),
        (key_set(ec_jwk(y=ec_jwk()["x"])), "broken"),
        (key_set(ed_jwk(x="AQAB")), "broken"),
        (key_set(oct_jwk(), {"kty": "oct"}), "broken key (number 2)"),
        (key_set(PRIVATE_RSA), "private key"),
        (key_set(*[oct_jwk()] * 33), "more than 32"),
    ],
)
def test_a_bad_file_of_keys_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(KeysError) as caught:
        parse_keys(text)

    assert problem in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    for secret in (oct_jwk()["k"], oct_jwk(b"short")["k"], PRIVATE_RSA["d"]):
        assert secret not in shown


def test_keys_for_other_purposes_are_passed_over() -> None:
    ed448_key = ed448.Ed448PrivateKey.generate().public_key()
    others = [
        OKPAlgorithm.to_jwk(ed448_key, as_dict=True),
        rsa_jwk(use="enc"),
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"},
        {"kty": "oct", "k": "short", "use": "enc"},
    ]

    assert len(parse_keys(key_set(*others, oct_jwk(use="sig")))) == 1


class Guarded:
    """An authenticator over a file, and what it has counted."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.json"
        self.path.write_bytes(key_set(oct_jwk(kid="old")))
        self.registry = CollectorRegistry()
        self.auth = Authenticator(
            self.path, "feedmesh", None, AuthMetrics(self.registry)
        )

    def token(self, secret: bytes = SECRET, **more: Any) -> str:
        return sign(secret, **{"exp": 4e9} | more)

    def count(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(f"feedmesh_edge_auth_{name}", labels)
        return value or 0.0

    def refused(self, reason: str) -> float:
        return self.count("refused_total", reason=reason)


@pytest.fixture
def it(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)


def test_a_changed_file_is_used_at_the_next_look(it: Guarded) -> None:
    it.path.write_bytes(key_set(oct_jwk(b"n" * 32)))
    it.auth.identify(it.token())
    it.auth.refresh()

    it.auth.identify(it.token(b"n" * 32))
    with pytest.raises(AuthError):
        it.auth.identify(it.token())
    assert it.count("key_loads_total", result="used") == 2


def test_a_broken_file_keeps_the_old_keys_and_is_counted_once(
    it: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    for text in (b"broken", key_set(), key_set(PRIVATE_RSA), b"x" * 300_000):
        it.path.write_bytes(text)
        it.auth.refresh()
        it.auth.refresh()
    it.path.unlink()
    it.auth.refresh()
    it.auth.refresh()

    assert it.auth.identify(it.token()).subject == "ann"
    assert it.count("key_loads_total", result="broken") == 4
    assert it.count("keys") == 1
    assert it.count("keys_broken") == 1
    assert PRIVATE_RSA["d"] not in caplog.text

    it.path.write_bytes(key_set(oct_jwk(b"n" * 32), rsa_jwk()))
    it.auth.refresh()
    assert it.count("keys") == 2
    assert it.count("keys_broken") == 0


@pytest.mark.parametrize("text", [None, b"broken", key_set(oct_jwk(b"short"))])
def test_a_bad_file_at_the_start_is_a_bad_setting(
    tmp_path: Path, text: bytes | None
) -> None:
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_bytes(text)
    settings = Settings(edge_auth_keys_file=path)

    with pytest.raises(SettingsError, match=r"^EDGE_AUTH_KEYS_FILE (cannot|is|holds) "):
        authenticator(settings, CollectorRegistry())


def test_without_keys_nobody_is_asked() -> None:
    assert authenticator(Settings(), CollectorRegistry()) is None


@pytest.mark.parametrize(
    "env",
    [
        {"EDGE_AUTH_KEYS_FILE": "http://id.example/keys"},
        {"EDGE_AUTH_KEYS_FILE": "https://id.example/keys"},
        {"EDGE_AUTH_LEGACY": "required"},
        {"EDGE_AUTH_AUDIENCE": "mine"},
        {"EDGE_AUTH_ISSUER": "https://id.example"},
        {"EDGE_AUTH_KEYS_FILE": "keys.json", "EDGE_AUTH_LEGACY": "closed"},
        {"EDGE_AUTH_KEYS": "keys.json"},
    ],
)
def test_settings_that_only_seem_to_guard_are_refused(env: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="EDGE_AUTH_"):
        Settings.from_env(env)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def login(it: Guarded, identity: Identity | None = None) -> tuple[Login, Clock]:
    clock = Clock()
    return Login(it.auth, identity, clock), clock


def ended(ask: Callable[[], object]) -> str:
    with pytest.raises(AuthError) as caught:
        ask()
    return caught.value.reason


def test_a_session_must_say_who_it_is_first(it: Guarded) -> None:
    session, _ = login(it)

    assert session.needed
    assert ended(lambda: session.identity) == "not_first"
    session.present(it.token())

    assert not session.needed
    assert session.identity.subject == "ann"
    assert it.refused("not_first") == 1


def test_a_session_must_say_who_it_is_in_time(it: Guarded) -> None:
    session, clock = login(it)

    clock.now += 9.9
    assert not session.overdue()
    clock.now += 0.1

    assert [session.overdue() for _ in range(3)] == [True, False, False]
    assert it.refused("too_late") == 1


def test_a_session_ends_with_its_token(it: Guarded) -> None:
    session, clock = login(it)
    session.present(it.token(exp=NOW + 60))

    clock.now += 64.9
    assert session.identity.subject == "ann"
    assert not session.overdue()
    clock.now += 0.1

    assert session.overdue()
    assert ended(lambda: session.identity) == "expired"
    assert it.refused("expired") == 1


def test_a_newer_token_of_the_same_subject_takes_over(it: Guarded) -> None:
    session, clock = login(it)
    session.present(it.token(exp=4e9))
    session.present(it.token(exp=NOW + 600, symbols=["AAPL"]))

    assert session.identity.symbols == frozenset({"AAPL"})
    clock.now += 605
    assert session.overdue()


def test_a_token_of_another_subject_ends_the_session(it: Guarded) -> None:
    session, _ = login(it, Identity("ann", NOW + 60))

    assert ended(lambda: session.present(it.token(sub="bob"))) == "other_subject"
    assert session.identity.subject == "ann"
    # It is closed for that; the sweep need not close it once more.
    assert not session.overdue()


def test_a_bad_newer_token_ends_the_session(it: Guarded) -> None:
    session, _ = login(it, Identity("ann", NOW + 60))

    assert ended(lambda: session.present("x")) == "malformed"
    assert it.refused("malformed") == 1


def test_where_no_token_is_needed_any_is_taken() -> None:
    session = Login(None, ANYONE)
    session.present("whatever")

    assert not session.overdue()
    assert not session.needed

    assert session.identity is ANYONE


class Gate:
    """A gate, what passed it, and what it answered."""

    def __init__(self, auth: Authenticator, legacy_open: bool = False) -> None:
        self._gate = TokenGate(self._behind, auth, legacy_open)

    async def __call__(
        self, path: str, *headers: bytes, query: bytes = b"", kind: str = "http"
    ) -> Any:
        """Return the identity that passed, None for one to come, or the status."""
        self.passed: list[Any] = []
        self.sent: list[Any] = []
        scope = {
            "type": kind,
            "path": path,
            "query_string": query,
            "headers": [(b"authorization", value) for value in headers],
        }
        await self._gate(scope, self._nothing, self._send)
        return self.passed[0] if self.passed else self.sent[0]["status"]

    async def _behind(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            self.passed.append(login_of(HTTPConnection(scope)).identity)
        except AuthError:
            self.passed.append(None)

    async def _nothing(self) -> Any:
        raise AssertionError("nothing may be read before it has passed")

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


GUARDED = [
    "/ws/news",
    "/api/v2/realtime/ws/prices",
    "/api/v2/realtime/cache",
    "/api/v2/realtime/cache/AAPL",
    "/api/v2/realtime/subscribe",
    "/api/v2/realtime/unsubscribe",
    "/api/v2/realtime/status",
    "/api/v3/news",
    "/api/v3/whatever-comes",
    "/nowhere",
    "//",
    "/page",
    "/api/v3/stream/",
]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("path", GUARDED)
async def test_the_gate_asks_for_a_token(it: Guarded, path: str, kind: str) -> None:
    gate = Gate(it.auth)
    good = it.token().encode()

    assert await gate(path, kind=kind) == 401
    assert await gate(path, b"Bearer " + good[:-2], kind=kind) == 401
    assert (await gate(path, b"Bearer " + good, kind=kind)).subject == "ann"
    assert (await gate(path, b"bearer  " + good, kind=kind)).subject == "ann"


@pytest.mark.parametrize(
    "path", ["/", "/openapi.json", "/page/app.js", "/api/v2/realtime/health"]
)
async def test_what_holds_no_data_needs_no_token(it: Guarded, path: str) -> None:
    assert await Gate(it.auth)(path) is ANYONE


@pytest.mark.parametrize("path", GUARDED)
async def test_only_version_3_asks_for_one_if_the_rest_is_open(
    it: Guarded, path: str
) -> None:
    passed = await Gate(it.auth, legacy_open=True)(path)

    assert passed == (401 if path.startswith("/api/v3/") else ANYONE)


@pytest.mark.parametrize("legacy_open", [True, False])
async def test_the_stream_may_be_told_later(it: Guarded, legacy_open: bool) -> None:
    gate = Gate(it.auth, legacy_open)
    header = b"Bearer " + it.token().encode()

    assert await gate("/api/v3/stream", kind="websocket") is None
    assert (await gate("/api/v3/stream", header, kind="websocket")).subject == "ann"
    assert await gate("/api/v3/stream", b"Bearer x", kind="websocket") == 401
    assert await gate("/api/v3/stream") == 401


@pytest.mark.parametrize(
    "headers",
    [
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        [b"Basic YTpi"],
        [b"{good}"],
        [b"Bearer {good} {good}"],
        [b"Bearer {good}", b"Bearer {good}"],
        [b"Bearer \xff\xfe"],
        [b'Bearer "{good}"'],
        [b"Bearer {good},"],
    ],
)
async def test_other_headers_do_not_do_and_all_hear_the_same(
    it: Guarded, headers: list[bytes]
) -> None:
    gate = Gate(it.auth)
    good = it.token().encode()
    await gate("/ws/news")
    missing = gate.sent

    given = [header.replace(b"{good}", good) for header in headers]
    assert await gate("/ws/news", *given) == 401

    assert gate.sent == missing
    assert (b"www-authenticate", b"Bearer") in gate.sent[0]["headers"]
    assert (b"content-type", b"application/problem+json") in gate.sent[0]["headers"]
    assert json.loads(gate.sent[1]["body"])["status"] == 401


@pytest.mark.parametrize(
    "query",
    [
        b"access_token={token}",
        b"symbols=AAPL&token={token}",
        b"TOKEN=x",
        b"jwt=1",
        b"anything={token}",
        b"{token}",
    ],
)
@pytest.mark.parametrize("path", ["/", "/ws/news", "/api/v3/stream"])
async def test_a_token_in_the_url_is_refused_however_good(
    it: Guarded, path: str, query: bytes
) -> None:
    gate = Gate(it.auth)
    token = it.token()

    status = await gate(
        path,
        b"Bearer " + token.encode(),
        query=query.replace(b"{token}", token.encode()),
    )

    assert status == 400
    assert "Authorization header" in gate.sent[1]["body"].decode()
    assert token not in gate.sent[1]["body"].decode()
    assert it.refused("in_url") == 1


async def test_other_queries_are_none_of_its_business(it: Guarded) -> None:
    header = b"Bearer " + it.token().encode()

    for query in (b"limit=3", b"frames=array", b"nextoken=1", b"since=NEWS.ab.12.ff"):
        assert await Gate(it.auth)("/api/v3/news", header, query=query) != 400


@pytest.mark.parametrize(
    ("path", "more", "passes"),
    [
        ("/api/v2/realtime/cache", {"channels": ["prices"]}, True),
        ("/api/v2/realtime/cache/AAPL", {"channels": ["prices"]}, True),
        ("/api/v2/realtime/cache", {"channels": ["news"]}, False),
        ("/api/v2/realtime/unsubscribe", {"channels": ["news"]}, False),
        ("/ws/news", {"channels": ["news", "status"]}, True),
        ("/ws/news", {"channels": []}, False),
        ("/api/v3/news", {"channels": ["prices"]}, False),
        ("/api/v2/realtime/status", {"channels": ["status"]}, True),
        ("/api/v3/prices/BRK/B", {"channels": ["prices"]}, True),
        ("/api/v3/prices", {"channels": ["news"]}, False),
        ("/api/v3/status", {"channels": ["prices"]}, False),
        ("/api/v2/realtime/ws/prices", {"symbols": ["AAPL"]}, True),
        # A route that nobody has thought of yet may not know limits.
        ("/api/v3/whatever-comes", {"symbols": ["AAPL"]}, False),
        ("/api/v3/whatever-comes", {"channels": ["prices"]}, False),
        ("/api/v3/whatever-comes", {}, True),
    ],
)
async def test_a_limited_token_passes_only_where_limits_are_known(
    it: Guarded, path: str, more: dict[str, Any], passes: bool
) -> None:
    result = await Gate(it.auth)(path, b"Bearer " + it.token(**more).encode())

    assert (result != 403) is passes
    assert it.refused("forbidden") == (not passes)


def test_settings_take_a_path() -> None:
    settings = Settings.from_env({"EDGE_AUTH_KEYS_FILE": "/etc/keys.json"})

    assert settings.edge_auth_keys_file == Path("/etc/keys.json")
    assert settings.edge_auth_legacy == "required"
