"""The API and the live page: FastAPI over what `normalizer.runtime` opens."""

from normalizer.api.access import Access, Role
from normalizer.api.app import create_app
from normalizer.api.server import serve, serve_here

__all__ = ["Access", "Role", "create_app", "serve", "serve_here"]
