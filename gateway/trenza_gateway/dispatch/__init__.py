"""From a request to a replica and back: places, leases, calls, retries."""
