//! Which names say that their value is a secret.

/// What the name of a secret ends with, without separators and in lower case.
const ENDINGS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "authkey",
    "accountkey",
    "sharedkey",
    "masterkey",
    "signingkey",
    "encryptionkey",
    "keypass",
    "storepass",
    "connectionstring",
    "requirepass",
    "masterauth",
    "xamzsignature",
    "xgoogsignature",
];

/// What the last part of a secret's name is, where a name as a whole may end so by chance (`compass`).
const LAST_PARTS: &[&str] = &["pass", "pw", "psk", "jwt", "bearer", "sshpass"];

/// Flags that end like those of secrets, and name a file.
const FILES: &[&str] = &["auth-user-pass", "http-proxy-user-pass"];

/// Flags whose value is `user:secret`, without separators and in lower case.
const CREDENTIALS: &[&str] = &["auth", "basicauth", "httpauth", "httpbasicauth", "proxyauth", "creds", "credentials"];

/// A flag that begins so takes no secret: `--no-password`, `--ask-pass`.
const QUESTIONS: &[&str] = &[
    "no", "ask", "prompt", "without", "require", "need", "disable", "enable", "show", "skip", "allow", "generate",
    "reset", "change", "lookup", "use", "with",
];

/// Headers whose value is a secret, whatever their names end with.
const HEADERS: &[&str] = &["authorization", "proxy-authorization", "cookie", "set-cookie", "x-auth-key"];

/// Names are looked at from their end, so far.
const LOOK_BACK: usize = 64;

/// The names that are known, and those that an operator adds.
#[derive(Debug)]
pub(super) struct Names {
    more: Vec<String>,
}

impl Names {
    pub(super) fn new(more: &[String]) -> Self {
        let flat = |name: &String| String::from_utf8_lossy(Flat::of(name).bytes()).into_owned();
        Self { more: more.iter().map(flat).filter(|name| !name.is_empty()).collect() }
    }

    /// Whether the value of a setting with this name is a secret.
    pub(super) fn is_secret(&self, name: &str) -> bool {
        let flat = Flat::of(name);
        let bytes = flat.bytes();
        if bytes.is_empty() {
            return false;
        }
        if self.more.iter().any(|more| more.as_bytes() == bytes) || name == "_auth" {
            return true;
        }
        if ENDINGS.iter().any(|ending| bytes.ends_with(ending.as_bytes())) {
            return true;
        }
        let mut parts = name.rsplit(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
        let (last, before) = (parts.next().unwrap_or_default(), parts.next());
        // `PWD` alone is the working directory.
        (before.is_some() && last.eq_ignore_ascii_case("pwd"))
            || LAST_PARTS.iter().any(|part| last.eq_ignore_ascii_case(part))
    }

    /// Whether the word behind this flag is a secret.
    pub(super) fn is_secret_flag(&self, flag: &str) -> bool {
        let name = flag.trim_start_matches('-');
        let first = name.split(['-', '_']).next().unwrap_or_default();
        let asks = first.len() < name.len() && QUESTIONS.iter().any(|word| first.eq_ignore_ascii_case(word));
        let file = FILES.iter().any(|file| name.eq_ignore_ascii_case(file));
        !asks && !file && (self.is_secret(name) || name.eq_ignore_ascii_case("pwd"))
    }

    /// Whether the value of this flag is a user with a secret.
    pub(super) fn is_credentials_flag(flag: &str) -> bool {
        let flat = Flat::of(flag.trim_start_matches('-'));
        CREDENTIALS.iter().any(|name| name.as_bytes() == flat.bytes())
    }

    /// Whether this name in the query of a URL is that of a signature, with which alone the URL is good for something.
    pub(super) fn is_signature(name: &str) -> bool {
        name.eq_ignore_ascii_case("sig") || name.eq_ignore_ascii_case("signature")
    }

    pub(super) fn is_header(name: &str) -> bool {
        HEADERS.iter().any(|header| name.eq_ignore_ascii_case(header))
    }
}

/// The end of a name without its separators, in lower case.
struct Flat {
    bytes: [u8; LOOK_BACK],
    length: usize,
}

impl Flat {
    fn of(name: &str) -> Self {
        let mut flat = Self { bytes: [0; LOOK_BACK], length: 0 };
        let name = name.as_bytes();
        let end = name.get(name.len().saturating_sub(LOOK_BACK)..).unwrap_or_default();
        for byte in end.iter().filter(|byte| byte.is_ascii_alphanumeric()) {
            if let Some(place) = flat.bytes.get_mut(flat.length) {
                *place = byte.to_ascii_lowercase();
                flat.length += 1;
            }
        }
        flat
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The name that ends where this text does, and where it begins.
pub(super) fn name_before(text: &str) -> (&str, usize) {
    let bytes = text.as_bytes();
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let length = bytes.iter().rev().take(LOOK_BACK).take_while(|byte| is_part(byte)).count();
    let start = bytes.len() - length;
    (text.get(start..).unwrap_or_default(), start)
}
