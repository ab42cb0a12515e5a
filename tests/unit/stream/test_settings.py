"""Settings come from the environment; what cannot be used is named, with the remedy."""

from __future__ import annotations

import pytest

from cdp_stream.errors import SettingsError
from cdp_stream.stream.settings import Settings

HERE = {"CDP_STREAM_KAFKA": "localhost:9092"}
SASL = {
    **HERE,
    "CDP_STREAM_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "CDP_STREAM_SASL_USERNAME": "ann",
    "CDP_STREAM_SASL_PASSWORD": "hush",
}


def test_only_the_brokers_have_to_be_named() -> None:
    assert Settings(kafka="localhost:9092") == Settings.from_environ({**HERE, "PATH": "/bin"})


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert Settings(kafka="localhost:9092") == Settings.from_environ({**HERE, "CDP_STREAM_METRICS_PORT": ""})


def test_several_brokers_reach_each_client_in_its_own_form() -> None:
    settings = Settings.from_environ({"CDP_STREAM_KAFKA": "one:9092, two:9093,[::1]:9092"})
    assert "one:9092,two:9093,[::1]:9092" == settings.aiokafka_options()["bootstrap_servers"]
    assert "kafka://one:9092;kafka://two:9093;kafka://[::1]:9092" == settings.faust_broker()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, ["CDP_STREAM_KAFKA is not set", "kafka up"]),
        ({"CDP_STREAM_KAFKA": "localhost"}, ["CDP_STREAM_KAFKA", "'localhost' is not host:port"]),
        ({"CDP_STREAM_KAFKA": "a:99999"}, ["'a:99999' is not host:port", "a port from 1 to 65535"]),
        ({"CDP_STREAM_KAFKA": "a:0"}, ["'a:0' is not host:port"]),
        ({"CDP_STREAM_KAFKA": "a:1;b:2"}, ["'a:1;b:2' is not host:port", "commas"]),
        ({**HERE, "CDP_STREAM_TOPIC_PREFX": "x"}, ["CDP_STREAM_TOPIC_PREFX", "CDP_STREAM_TOPIC_PREFIX?"]),
        ({**HERE, "CDP_STREAM_TOPIC_PREFIX": "a b"}, ["CDP_STREAM_TOPIC_PREFIX='a b'", "letters"]),
        ({**HERE, "CDP_STREAM_STEP_EVENTS_MAX": "many"}, ["CDP_STREAM_STEP_EVENTS_MAX='many'", "from 1 to 10000"]),
        ({**HERE, "CDP_STREAM_SESSION_TIMEOUT_S": "0"}, ["CDP_STREAM_SESSION_TIMEOUT_S='0'", "from 1 to 300"]),
        ({**HERE, "CDP_STREAM_SECURITY_PROTOCOL": "TLS"}, ["'TLS'", "SASL_SSL"]),
        ({**SASL, "CDP_STREAM_SASL_MECHANISM": "GSSAPI"}, ["'GSSAPI'", "SCRAM-SHA-512"]),
        ({**SASL, "CDP_STREAM_SASL_PASSWORD": ""}, ["needs CDP_STREAM_SASL_PASSWORD"]),
        ({**SASL, "CDP_STREAM_SECURITY_PROTOCOL": "SSL"}, ["does not use it", "SASL_PLAINTEXT or SASL_SSL"]),
        ({**HERE, "CDP_STREAM_SSL_CAFILE": "ca.pem"}, ["CDP_STREAM_SSL_CAFILE", "must be SSL or SASL_SSL"]),
        (
            {**HERE, "CDP_STREAM_SECURITY_PROTOCOL": "SSL", "CDP_STREAM_SSL_KEYFILE": "key.pem"},
            ["set CDP_STREAM_SSL_CERTFILE too"],
        ),
    ],
)
def test_a_bad_setting_names_the_variable_and_the_remedy(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environ(environ)
    assert [] == [word for word in words if word not in str(raised.value)], str(raised.value)


def test_a_password_is_in_no_message_and_no_repr() -> None:
    assert "hush" not in repr(Settings.from_environ(SASL))
    with pytest.raises(SettingsError) as raised:
        Settings.from_environ({**SASL, "CDP_STREAM_SECURITY_PROTOCOL": "PLAINTEXT"})
    assert "hush" not in str(raised.value)


def test_faust_is_given_the_credentials_that_aiokafka_is_given() -> None:
    settings = Settings.from_environ({**SASL, "CDP_STREAM_SASL_MECHANISM": "SCRAM-SHA-512"})
    options, credentials = settings.aiokafka_options(), settings.faust_credentials()
    assert ("SASL_PLAINTEXT", "SCRAM-SHA-512", "ann", "hush") == (
        options["security_protocol"],
        options["sasl_mechanism"],
        options["sasl_plain_username"],
        options["sasl_plain_password"],
    )
    assert ("SASL_PLAINTEXT", "SCRAM-SHA-512", "ann", "hush") == (
        credentials.protocol.value,
        credentials.mechanism.value,
        credentials.username,
        credentials.password,
    )


def test_a_certificate_that_cannot_be_read_is_named() -> None:
    environ = {**HERE, "CDP_STREAM_SECURITY_PROTOCOL": "SSL", "CDP_STREAM_SSL_CAFILE": "/nowhere/ca.pem"}
    with pytest.raises(SettingsError, match=r"CDP_STREAM_SSL_CAFILE='/nowhere/ca\.pem'"):
        Settings.from_environ(environ).aiokafka_options()
