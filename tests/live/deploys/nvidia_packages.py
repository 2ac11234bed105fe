"""The driver's packages alone, for a machine without a GPU: they install, and DKMS builds the module."""

from pyinfra.operations import apt

from tasks.apt import installed
from tasks.nvidia import DRIVER, held, non_free_enabled

apt.update(name="Read the package lists", cache_time=86400)
non_free_enabled(name="See Debian's non-free packages")
installed(name="Install the driver", packages=["linux-headers-amd64", *DRIVER])
held(name="Hold the driver", packages=DRIVER)
