"""One address for a whole cluster: a stateless process that sends every request to the node that is best placed for it.

``routing`` finds the key of a request, ``view`` says in which order nodes are asked for it, ``cluster`` learns the view
from the nodes themselves and keeps the connections, ``forwarding`` asks one node after the other as long as that does
no harm, ``application`` carries it over ASGI, ``server`` is the process. Any node serves any request: a view that is
out of date costs a hop, never correctness.
"""
