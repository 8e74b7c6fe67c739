"""A real Kubernetes on this machine, and the images that run on it.

Contract of the package: it imports only the standard library, so that it runs before anything is installed; it
changes nothing on the machine that `down` cannot find again; and everything that takes long is cached by the content
it was made from. Nothing in here is shipped.
"""
