"""What `ps` may show of our arguments."""

import pytest

from pyproxy.cli.argv import masked


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("--token sesame x", "--token ****** x"),
        ("--token=sesame --port=0", "--token=****** --port=0"),
        ("--password=a=b", "--password=***"),
        ("--password --token x", "--password ******* x"),  # it is the value
        ("--server=https://u:p@h:1/x", "--server=https://***@h:1/x"),
        ("--server https://u:p@h", "--server https://***@h"),
        ("-s=http://u:p@h", "-s=http://***@h"),
        ("-shttp://u:p@h", "-shttp://***@h"),
        ("-s http://u:p@h", "-s http://***@h"),
        ("--server=u:p@h", "--server=***@h"),
        ("--server=https://u:p/a@h", "--server=https://*****@h"),
        ("--proxy-url=socks5://u:p@h:1", "--proxy-url=socks5://***@h:1"),
        ("--server=https://h:1", "--server=https://h:1"),
        ("kubectl-proxy --user me --port 1", "kubectl-proxy --user me --port 1"),
        ("--token", "--token"),
    ],
)
def test_secrets_are_masked_and_lengths_stay(words: str, shown: str) -> None:
    given = words.encode().split(b" ")
    hidden = list(masked(given))
    assert b" ".join(hidden).decode() == shown
    assert list(map(len, hidden)) == list(map(len, given))
