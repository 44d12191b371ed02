import datetime
import hashlib
import hmac

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC


def use(seed: int) -> None:
    text = b"message %d" % seed * 50

    # Vectors of the standards: GCM (NIST), AES (FIPS 197), Ed25519 (RFC 8032).
    sealed = AESGCM(bytes(16)).encrypt(bytes(12), bytes(16), None)
    assert sealed.hex() == "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"
    encryptor = Cipher(algorithms.AES(bytes(range(16))), modes.ECB()).encryptor()
    block = encryptor.update(bytes.fromhex("00112233445566778899aabbccddeeff"))
    assert block.hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"
    secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    signer = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    public = signer.public_key().public_bytes_raw().hex()
    assert public == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert signer.sign(b"").hex().startswith("e5564300c360ac729086e2cc806e828a")

    # The same as the standard library says.
    digest = hashes.Hash(hashes.SHA3_256())
    digest.update(text)
    assert digest.finalize() == hashlib.sha3_256(text).digest()
    mac = HMAC(b"key", hashes.SHA256())
    mac.update(text)
    assert mac.finalize() == hmac.digest(b"key", text, "sha256")
    derived = PBKDF2HMAC(hashes.SHA256(), 32, b"salt", 2000).derive(text)
    assert derived == hashlib.pbkdf2_hmac("sha256", text, b"salt", 2000, 32)

    token = Fernet(Fernet.generate_key())
    assert token.decrypt(token.encrypt(text), ttl=60) == text
    for broken, error in (
        (lambda: token.decrypt(b"nonsense"), InvalidToken),
        (lambda: AESGCM(bytes(16)).decrypt(bytes(12), bytes(32), None), InvalidTag),
        (lambda: signer.public_key().verify(bytes(64), text), InvalidSignature),
    ):
        try:
            broken()
        except error:
            pass
        else:
            raise AssertionError(f"no {error.__name__}")
    box = ChaCha20Poly1305(ChaCha20Poly1305.generate_key())
    assert box.decrypt(bytes(12), box.encrypt(bytes(12), text, b"aad"), b"aad") == text

    a, b = x25519.X25519PrivateKey.generate(), x25519.X25519PrivateKey.generate()
    assert a.exchange(b.public_key()) == b.exchange(a.public_key())
    key = rsa.generate_private_key(65537, 1024 if seed < 0 else 2048) if seed % 4 == 0 else None
    if key is not None:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH)
        key.public_key().verify(
            key.sign(text, pss, hashes.SHA256()), text, pss, hashes.SHA256()
        )
    certificate(seed)


def certificate(seed: int) -> None:
    """A certificate made, written, read again, and checked."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"atoll {seed}")])
    start = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1000 + seed)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=366))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("example.org")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    assert pem.startswith(b"-----BEGIN CERTIFICATE-----\n")
    read = x509.load_pem_x509_certificate(pem)
    assert read.serial_number == 1000 + seed
    assert read.subject.rfc4514_string() == f"CN=atoll {seed}"
    assert read.not_valid_after_utc == datetime.datetime(2025, 3, 1, tzinfo=datetime.UTC)
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["example.org"]
    read.verify_directly_issued_by(made)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    again = serialization.load_pem_private_key(secret, b"password")
    assert isinstance(again, ec.EllipticCurvePrivateKey)
    assert again.private_numbers() == key.private_numbers()
