"""The Docker Engine API over aiohttp."""
