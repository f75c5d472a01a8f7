"""The API and the live page: FastAPI over what `normalizer.runtime` opens."""

from normalizer.api.access import Access, Role
from normalizer.api.app import create_app, serve

__all__ = ["Access", "Role", "create_app", "serve"]
