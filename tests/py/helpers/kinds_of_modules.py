"""A module that holds what scripts have as well."""

from contextvars import ContextVar

request = ContextVar("request", default=None)
