"""What every Python that starts from this folder imports first: it asks for no network, or $ASKED has a line of it."""

import os
import sys

EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


def refuse(event, arguments):
    """Note and refuse what leaves the machine; sockets that are files, by which processes talk, stay."""
    if event in EVENTS and not isinstance(arguments[-1], str | bytes):
        with open(os.environ["ASKED"], "a") as asked:
            asked.write(f"{event} {arguments[-1]!r} by {sys.argv}\n")
        raise OSError(f"{event} in a test without network")


sys.addaudithook(refuse)
