"""tqdm: a progress bar for a pool of interpreters, as for every pool of concurrent.futures.

python examples/progress.py
"""

import hashlib
from concurrent.futures import as_completed

import atoll
from tqdm import tqdm


def stretch(password):
    return hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 20_000).hex()


passwords = [f"secret {i}" for i in range(40)]

with atoll.InterpreterPoolExecutor() as pool:
    # In their order...
    keys = list(tqdm(pool.map(stretch, passwords), total=len(passwords)))
    # ...and as they come.
    futures = {pool.submit(stretch, one): one for one in passwords}
    for future in tqdm(as_completed(futures), total=len(futures)):
        assert future.result() in keys

print(f"{len(set(keys))} keys, the first one is {keys[0][:8]}")
