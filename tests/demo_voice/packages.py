"""Which of the demo voice's Debian packages are missing here."""

import pytest

from lab.demo_voice import sources

missing = [source.package for source in sources.SOURCES if not source.there]
needs_packages = pytest.mark.skipif(bool(missing), reason=f"needs the Debian packages {' '.join(missing)}: {sources.INSTALL}")
