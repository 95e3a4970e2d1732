"""The vocabulary of HTTP, said once for servers, clients and instruments: paths, headers, codes, bodies, limits."""
