//! A first look at a text that nearly always says: nothing here. One pass, some hundred nanoseconds for
//! a sentence; the patterns are only asked where it says otherwise.

use super::words::{SHORTEST, is_random};

/// Three letters of each name that promises a secret and of each shape, whatever their case. Chosen so
/// that other words rarely have them: `secret` by `ecr`, for `cre` is in `create`.
const OF_TEXTS: &[&[u8; 3]] = &[
    // secret, password, pass phrase, pwd, token, credential, auth, key, cookie, sig=, signature, jwt, jwk
    b"ecr", b"ssw", b"hra", b"pwd", b"oke", b"ede", b"uth", b"key", b"oki", b"ig=", b"gna", b"jwt",
    b"jwk", // dsn, pfx, otp, external id, pass=, pass:, dbpass
    b"dsn", b"pfx", b"otp", b"xte", b"ss=", b"ss:", b"bpa",
    // PEM, AKIA, ASIA, ABIA, ACCA, LTAI
    b"---", b"kia", b"sia", b"bia", b"cca", b"lta",
    // ghp_ and its like, github_pat_, those of GitLab
    b"hp_", b"ho_", b"hu_", b"hs_", b"hr_", b"_pa", b"lpa", b"ldt", b"lrt", b"lcb", b"lpt", b"lft",
    b"lso", b"lag",
    // xoxb-, xapp-, ya29., 1//0, AIza, GOCSPX-, dckr_pat_, npm_, pypi-, hvs., sk_live_, sk_test_
    b"xox", b"xap", b"ya2", b"1//", b"aiz", b"csp", b"dck", b"npm", b"pyp", b"hvs", b"hvb", b"hvr",
    b"k_l", b"k_t", // cfut_, vcp_, Azure's, tokens of JSON, bearer, basic, negotiate
    b"cfu", b"cfa", b"cfk", b"vcp", b"vck", b"vca", b"8q~", b"eyj", b"rer", b"sic", b"ego",
];
/// The same of keys that JSON has besides.
const OF_KEYS: &[&[u8; 3]] = &[
    // env, environment, variables, user_data, userData, custom_data, customData, startup, shutdown,
    // bootstrap, cloud-init, last-applied, settings, arguments, flags, connection_string
    b"env", b"iab", b"r_d", b"rda", b"m_d", b"mda", b"rtu", b"utd", b"r-d", b"tst", b"d-i", b"d_i",
    b"udi", b"t-a", b"tti", b"gum", b"\"--", b"n_s",
];

/// The same of every name that promises a secret.
const OF_NAMES: &[&[u8; 3]] = &[
    b"ecr", b"pas", b"hra", b"pwd", b"oke", b"ede", b"uth", b"key", b"oki", b"sig", b"jwt", b"jwk",
    b"dsn", b"pfx", b"otp", b"xte", b"nne", b"tab", b"kub", b"oud", b"cer", b"ock",
];

/// Which triples of letters are looked for: a bit for each.
pub(super) struct Sieve([u64; 512]);

pub(super) static TEXTS: Sieve = Sieve::of(OF_TEXTS, &[]);
pub(super) static JSON: Sieve = Sieve::of(OF_TEXTS, OF_KEYS);

static NAMES: Sieve = Sieve::of(OF_NAMES, &[]);

impl Sieve {
    const fn of(some: &[&[u8; 3]], more: &[&[u8; 3]]) -> Self {
        let mut bits = [0; 512];
        let mut at = 0;
        while at < some.len() + more.len() {
            let [one, two, three] = *if at < some.len() {
                some[at]
            } else {
                more[at - some.len()]
            };
            let place = (LETTERS[one as usize] as usize) << 10
                | (LETTERS[two as usize] as usize) << 5
                | LETTERS[three as usize] as usize;
            bits[place / 64] |= 1 << (place % 64);
            at += 1;
        }
        Self(bits)
    }
}

/// Each byte in five bits: letters whatever their case, what names and signs are made of, the rest.
static LETTERS: [u8; 256] = {
    let mut letters = [0; 256];
    let mut letter = 0;
    while letter < 26 {
        letters[(b'a' + letter) as usize] = letter + 1;
        letters[(b'A' + letter) as usize] = letter + 1;
        letter += 1;
    }
    letters[b'_' as usize] = 27;
    letters[b'-' as usize] = 28;
    letters[b'=' as usize] = 29;
    letters[b':' as usize] = 30;
    letters[b'/' as usize] = 31;
    letters
};

/// What a byte is in a run.
static KINDS: [u8; 256] = {
    let mut kinds = [ENDS; 256];
    let mut here = 0_u8;
    while here < 128 {
        if here.is_ascii_alphanumeric() {
            kinds[here as usize] = if here.is_ascii_digit() {
                DIGIT
            } else if here.is_ascii_uppercase() {
                CAPITAL
            } else {
                SMALL
            };
        }
        here += 1;
    }
    kinds[b'+' as usize] = PARTS;
    kinds[b'/' as usize] = PARTS;
    kinds[b'_' as usize] = PARTS;
    kinds[b'~' as usize] = PARTS;
    kinds[b'-' as usize] = PARTS;
    kinds[b'@' as usize] = HELD;
    kinds[b'%' as usize] = HELD;
    kinds[b'\\' as usize] = HELD;
    kinds
};
const SMALL: u8 = 0;
const CAPITAL: u8 = 1;
const DIGIT: u8 = 2;
const PARTS: u8 = 3;
const ENDS: u8 = 4;
const HELD: u8 = 5;

/// What the first look saw.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    /// Letters that the sieve holds back, an escape, or what may part a user from an address.
    pub(super) held: bool,
    /// A run of at least eight letters that may be a secret beside a name.
    pub(super) odd: bool,
    /// A run that is random by itself.
    pub(super) random: bool,
}

/// Whether a name may be one that promises a secret.
pub(super) fn may_promise(name: &str) -> bool {
    let mut last = 0;
    name.bytes().any(|byte| {
        last = (last << 5 | usize::from(LETTERS[usize::from(byte)])) & 0x7fff;
        NAMES.0[last / 64] >> (last % 64) & 1 == 1
    })
}

/// Looks at a text.
pub(super) fn look(text: &str, sieve: &Sieve) -> Seen {
    let mut seen = Seen::default();
    let (mut start, mut letters, mut turns, mut before) = (0, 0, 0, ENDS);
    let mut last = 0;
    for (at, &byte) in text.as_bytes().iter().enumerate() {
        last = (last << 5 | usize::from(LETTERS[usize::from(byte)])) & 0x7fff;
        seen.held |= sieve.0[last / 64] >> (last % 64) & 1 == 1;
        let here = KINDS[usize::from(byte)];
        if here < PARTS {
            letters += 1;
            let turn = before < PARTS && before != here && (before, here) != (CAPITAL, SMALL);
            turns += usize::from(turn);
        } else if here != PARTS {
            seen.held |= here == HELD;
            if turns >= 2 {
                seen.run(&text[start..at], letters);
            }
            (start, letters, turns) = (at + 1, 0, 0);
        }
        before = here;
    }
    if turns >= 2 {
        seen.run(&text[start..], letters);
    }
    seen
}

impl Seen {
    /// A run of letters and digits that follow one another in disorder.
    fn run(&mut self, run: &str, letters: usize) {
        self.odd |= letters >= 8;
        let hex = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        let is_uuid = run.len() == 36 && run.bytes().all(hex);
        self.random |= letters >= SHORTEST && !is_uuid && is_random(run);
    }
}
