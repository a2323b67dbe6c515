"""A kernel whose workers are forked from it before it has threads: `python -m
robustbook.run.kernel -f FILE`.
"""

import sys

if __name__ == "__main__":
    # Nothing is imported from the folder of the notebooks here; the kernel puts it
    # back.
    del sys.path[0]

    from contextlib import suppress

    from ipykernel.kernelapp import launch_new_instance

    from robustbook.errors import ParameterError
    from robustbook.workers import fork_workers

    # The notebook's own call says it to the user.
    with suppress(ParameterError):
        fork_workers()
    launch_new_instance()
