"""What holds for every test: properties are tried on the same cases each time.

`make test` decides whether a change lands, so two runs on one tree must agree. A random search is the way to
find new cases, and it has a command of its own, `make fuzz`; what it finds becomes a test with numbers.
"""

from hypothesis import settings

settings.register_profile("steady", derandomize=True)
settings.register_profile("search", derandomize=False, print_blob=True)
settings.load_profile("steady")
