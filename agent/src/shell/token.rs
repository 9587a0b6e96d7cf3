//! Tokens of executors: proofs that they are the ones that the agent started.
//!
//! A token is the HMAC-SHA-256 (RFC 2104) of a container's id under a key that lies in the work directory, so that it
//! outlives the agent and nothing need be stored for each container.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

const KEY_BYTES: usize = 32;
const BLOCK_BYTES: usize = 64;

/// Makes and checks tokens.
#[derive(Clone)]
pub(crate) struct Tokens {
    key: [u8; KEY_BYTES],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Reads the key from its file, or makes one that the kernel chooses.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds no key.
    pub fn load(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => {
                let key = bytes
                    .try_into()
                    .map_err(|_| io::Error::other("it holds no key"))?;
                Ok(Self { key })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(error),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let key: [u8; KEY_BYTES] = rand::random();
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        Ok(Self { key })
    }

    /// The token of a container, in hexadecimal digits.
    pub fn token(&self, container: &str) -> String {
        let mac = hmac(&self.key, container.as_bytes());
        mac.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a token is that of a container; takes the same time for every wrong one of that length.
    pub fn check(&self, container: &str, token: &str) -> bool {
        let right = self.token(container);
        if right.len() != token.len() {
            return false;
        }
        let different = right
            .bytes()
            .zip(token.bytes())
            .fold(0, |different, (ours, theirs)| different | (ours ^ theirs));
        std::hint::black_box(different) == 0
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(message)
        .finalize();
    let outer = Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize();
    outer.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_mac_is_that_of_the_standard() {
        // RFC 4231, test cases 2 and 6.
        let mac = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(
            hex(&mac),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let long = hmac(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
        );
        assert_eq!(
            hex(&long),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn tokens_outlive_the_agent_and_belong_to_one_container() {
        let scratch = tempfile::tempdir().expect("a directory");
        let path = scratch.path().join("secret");
        let first = Tokens::load(&path).expect("makes a key");
        let again = Tokens::load(&path).expect("reads the key");
        let token = first.token("c1");
        assert!(again.check("c1", &token));
        assert!(!again.check("c2", &token));
        assert!(!again.check("c1", &token[1..]));
        assert!(!again.check("c1", ""));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(&path).expect("is there").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "short").expect("writes");
        assert!(Tokens::load(&path).is_err());
    }
}
