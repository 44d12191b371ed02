import hashlib

import nacl.exceptions
import nacl.hash
import nacl.public
import nacl.pwhash
import nacl.secret
import nacl.signing
import nacl.utils
from nacl.bindings import crypto_scalarmult as scalarmult
from nacl.encoding import HexEncoder, RawEncoder


def x25519(secret: bytes, u: int) -> bytes:
    """Curve25519 in Python, after RFC 7748."""
    p = 2**255 - 19
    k = int.from_bytes(secret, "little") & ~7 & (2**255 - 1) | 1 << 254
    x1, x2, z2, x3, z3, swapped = u, 1, 0, u, 1, 0
    for t in range(254, -1, -1):
        bit = k >> t & 1
        if swapped ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swapped = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a, c * b, a * a, b * b
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        x2, z2 = aa * bb % p, (aa - bb) * (aa + 121665 * (aa - bb)) % p
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def use(seed: int) -> None:
    text = b"message %d " % seed * 100
    # RFC 8032.
    signer = nacl.signing.SigningKey(
        b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", HexEncoder
    )
    assert signer.verify_key.encode(HexEncoder) == (
        b"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    )
    assert signer.sign(b"").signature.hex().startswith("e5564300c360ac729086e2cc806e828a")
    alice = nacl.public.PrivateKey(hashlib.sha256(b"%d" % seed).digest())
    bob = nacl.public.PrivateKey.generate()
    assert bytes(alice.public_key) == x25519(bytes(alice), 9)
    other = int.from_bytes(bytes(bob.public_key), "little")
    assert scalarmult(bytes(alice), bytes(bob.public_key)) == x25519(bytes(alice), other)
    sent = nacl.public.Box(alice, bob.public_key).encrypt(text)
    assert nacl.public.Box(bob, alice.public_key).decrypt(sent) == text
    sealed = nacl.public.SealedBox(bob.public_key).encrypt(text)
    assert nacl.public.SealedBox(bob).decrypt(sealed) == text

    signed = signer.sign(text)
    assert signer.verify_key.verify(signed) == text
    box = nacl.secret.SecretBox(nacl.utils.random(nacl.secret.SecretBox.KEY_SIZE))
    for i in range(200):
        assert box.decrypt(box.encrypt(text + b"%d" % i)) == text + b"%d" % i
    aead = nacl.secret.Aead(bytes(32))
    assert aead.decrypt(aead.encrypt(text, b"aad"), b"aad") == text
    for action, error in (
        (lambda: box.decrypt(b"x" * 100), nacl.exceptions.CryptoError),
        (lambda: signer.verify_key.verify(b"x" + signed), nacl.exceptions.BadSignatureError),
        (lambda: nacl.secret.SecretBox(b"short"), nacl.exceptions.ValueError),
    ):
        try:
            action()
        except error:
            pass
        else:
            raise AssertionError(f"no {error.__name__}")

    # The same as the standard library says.
    assert nacl.hash.sha512(text, RawEncoder) == hashlib.sha512(text).digest()
    assert nacl.hash.blake2b(text, 32, key=b"k", encoder=RawEncoder) == (
        hashlib.blake2b(text, digest_size=32, key=b"k").digest()
    )
    derived = nacl.pwhash.scrypt.kdf(32, text, bytes(32), opslimit=32768, memlimit=1 << 20)
    assert len(derived) == 32
    hashed = nacl.pwhash.argon2id.str(
        text, nacl.pwhash.argon2id.OPSLIMIT_MIN, nacl.pwhash.argon2id.MEMLIMIT_MIN
    )
    assert nacl.pwhash.verify(hashed, text)
