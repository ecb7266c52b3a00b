"""For tests and plugin authors: a conformance suite per seam, a scripted upstream on a real port, a whole house.

    class TestMine(ProviderSuite):
        def target(self, base_url): ...

Only tests and plugin packages import this room. It needs pytest with anyio's plugin (`pip install pytest anyio`).
"""
