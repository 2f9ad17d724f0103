"""Which proxy of the environment an address is reached through."""

import base64
import os

import pytest

import tuneful as tf
from tuneful.backends.http.proxies import Proxy, proxy_for

PASSWORD = "secret-of-the-proxy"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)

    def set_to(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_to


def test_without_variables_there_is_none():
    assert proxy_for("https", "models.example", 443) is None


def test_each_scheme_has_its_own_and_all_proxy_is_for_the_others(environment):
    environment(HTTPS_PROXY="http://one.example:3128", ALL_PROXY="http://two.example:3128")
    assert proxy_for("https", "models.example", 443) == Proxy("http://one.example:3128")
    assert proxy_for("http", "models.example", 80) == Proxy("http://two.example:3128")


def test_an_address_without_a_scheme_is_one_of_http(environment):
    environment(http_proxy="one.example:3128")
    assert proxy_for("http", "models.example", 80) == Proxy("http://one.example:3128")


@pytest.mark.parametrize(
    "exceptions",
    ["models.example", ".example", "other, models.example:8080", "*"],
)
def test_no_proxy_names_hosts_domains_and_ports(environment, exceptions):
    environment(HTTP_PROXY="http://one.example", NO_PROXY=exceptions)
    assert proxy_for("http", "models.example", 8080) is None
    assert proxy_for("http", "models.test", 8080) == (None if exceptions == "*" else Proxy("http://one.example"))


@pytest.mark.parametrize(
    ("host", "passed_by"), [("10.1.2.3", True), ("11.1.2.3", False), ("fd00::1", True), ("ten.example", False)]
)
def test_no_proxy_names_networks(environment, host, passed_by):
    environment(HTTP_PROXY="http://one.example", NO_PROXY="localhost, 10.0.0.0/8, fd00::/8, no/network")
    assert (proxy_for("http", host, 80) is None) is passed_by


def test_a_login_is_a_header_and_no_part_of_the_address(environment):
    environment(HTTP_PROXY=f"https://some%40one:{PASSWORD}@[::1]:3128")
    proxy = proxy_for("http", "models.example", 80)
    assert proxy.url == "https://[::1]:3128"
    assert base64.b64decode(proxy.authorization.removeprefix("Basic ")).decode() == f"some@one:{PASSWORD}"
    assert proxy.authorization not in repr(proxy)


@pytest.mark.parametrize("address", ["socks5://{}@one.example:1080", "http://{}@", "http://{}@one.example:many"])
def test_a_proxy_of_another_kind_is_a_usage_error_that_shows_no_login(environment, address):
    environment(HTTPS_PROXY=address.format(f"someone:{PASSWORD}"))
    with pytest.raises(tf.UsageError, match="NO_PROXY") as caught:
        proxy_for("https", "models.example", 443)
    assert PASSWORD not in repr((caught.value, caught.value.__cause__, caught.value.__context__))
