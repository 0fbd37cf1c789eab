"""What a caller can have done wrong, by the gRPC status that Pub/Sub answers with.

BrokerError
├── NotFoundError            NOT_FOUND
├── AlreadyExistsError       ALREADY_EXISTS
├── InvalidArgumentError     INVALID_ARGUMENT
├── FailedPreconditionError  FAILED_PRECONDITION
└── UnsupportedError         UNIMPLEMENTED
"""

from typing import ClassVar


class BrokerError(Exception):
    """A request that cannot be served; its text is the status message and names the resource or field."""

    code: ClassVar[str]
    """The name of the gRPC status code."""


class NotFoundError(BrokerError):
    """The topic or subscription does not exist."""

    code = "NOT_FOUND"


class AlreadyExistsError(BrokerError):
    """The topic or subscription exists already."""

    code = "ALREADY_EXISTS"


class InvalidArgumentError(BrokerError):
    """A field of the request has a value that Pub/Sub refuses."""

    code = "INVALID_ARGUMENT"


class FailedPreconditionError(BrokerError):
    """The request does not suit the resource as it is configured."""

    code = "FAILED_PRECONDITION"


class UnsupportedError(BrokerError):
    """A part of Pub/Sub that this broker leaves out."""

    code = "UNIMPLEMENTED"


class UnavailableError(BrokerError):
    """The broker is ending; Pub/Sub's clients connect again by themselves."""

    code = "UNAVAILABLE"
