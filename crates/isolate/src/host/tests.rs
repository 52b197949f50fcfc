//! The host calls from outside: published vectors, bounds, and hostile arguments.

use proptest::prelude::*;

use super::*;

fn call(t: &mut Tables, op: &str, args: Vec<Wire<'_>>) -> Result<WireOut> {
    heavy_call(op, &args).or_else(|| pure_call(t, op, &args)).expect("a known operation")
}

fn once(op: &str, args: Vec<Wire<'_>>) -> Result<WireOut> {
    call(&mut Tables::default(), op, args)
}

fn bytes(v: &Wire<'_>) -> Vec<u8> {
    v.as_bytes().expect("bytes").to_vec()
}

fn hex(s: &str) -> Vec<u8> {
    let digit = |i: usize| u8::from_str_radix(&s[i..i + 2], 16).expect("hex");
    (0..s.len()).step_by(2).map(digit).collect()
}

fn wire(b: &[u8]) -> WireOut {
    b.to_vec().into()
}

#[test]
fn digests_are_known() {
    let sha256 = once("crypto.digest", vec!["SHA-256".into(), wire(b"abc")]).expect("digest");
    assert_eq!(bytes(&sha256), hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
    let md5 = once("crypto.digest", vec!["md5".into(), wire(b"")]).expect("digest");
    assert_eq!(bytes(&md5), hex("d41d8cd98f00b204e9800998ecf8427e"));
}

/// NIST's GCM test case 6: an IV of 60 bytes.
#[test]
fn gcm_takes_long_ivs() {
    let key = hex("feffe9928665731c6d6a8f9467308308");
    let iv =
        hex("9313225df88406e555909c5aff5269aa6a7a9538534f7da1e4c303d2a318a728c3c0c95156809539fcf0e2429a6b525416aedbf5a0de6a57a637b39b");
    let text =
        hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
    let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let sealed = once("crypto.aes.encrypt", vec!["gcm".into(), wire(&key), wire(&iv), wire(&text), wire(&aad), Wire::Int(16)]);
    let sealed = bytes(&sealed.expect("sealed"));
    assert_eq!(sealed[sealed.len() - 16..], hex("619cc5aefffe0bfa462af43c1699d050"));
    let open =
        |sealed: &[u8]| once("crypto.aes.decrypt", vec!["gcm".into(), wire(&key), wire(&iv), wire(sealed), wire(&aad), Wire::Int(16)]);
    assert_eq!(bytes(&open(&sealed).expect("opened")), text);
    let mut bad = sealed;
    bad[0] ^= 1;
    assert_eq!(open(&bad).expect_err("forged").name, "OperationError");
}

/// A counter of few bits wraps without carrying into the rest; 128 bits wrap over everything.
#[test]
fn ctr_wraps_within_its_bits() {
    let ecb = |block: [u8; 16]| {
        bytes(
            &once("crypto.aes.encrypt", vec!["ctr".into(), wire(&[7; 16]), wire(&block), wire(&[0; 16]), Wire::Null, Wire::Int(128)])
                .expect("block"),
        )
    };
    let run = |counter: [u8; 16], bits| {
        once("crypto.aes.encrypt", vec!["ctr".into(), wire(&[7; 16]), wire(&counter), wire(&[0; 32]), Wire::Null, Wire::Int(bits)])
    };
    let mut wrapped = [0xFF; 16];
    wrapped[15] = 0xF0;
    let narrow = bytes(&run([0xFF; 16], 4).expect("narrow"));
    assert_eq!(narrow, [ecb([0xFF; 16]), ecb(wrapped)].concat());
    let wide = bytes(&run([0xFF; 16], 128).expect("wide"));
    assert_eq!(wide, [ecb([0xFF; 16]), ecb([0; 16])].concat());
    assert!(run([0; 16], 128).is_ok());
    assert_eq!(run([0; 16], 0).expect_err("bits").name, "OperationError");
    let repeats = once("crypto.aes.encrypt", vec!["ctr".into(), wire(&[7; 16]), wire(&[0; 16]), wire(&[0; 48]), Wire::Null, Wire::Int(1)]);
    assert_eq!(repeats.expect_err("repeats").name, "OperationError");
}

/// Every hash goes with every curve: short digests are padded, long ones cut.
#[test]
fn signatures_verify() {
    for curve in ["P-256", "P-384", "P-521", "Ed25519"] {
        for hash in ["SHA-1", "SHA-256", "SHA-384", "SHA-512"] {
            let pair = once("crypto.ec.generate", vec![curve.into()]).expect("pair");
            let [private, public] = pair.as_array().expect("array") else { panic!("not a pair") };
            let signature = once("crypto.ec.sign", vec![curve.into(), hash.into(), private.clone(), wire(b"data")]).expect("signature");
            let verify =
                |data: &[u8]| once("crypto.ec.verify", vec![curve.into(), hash.into(), public.clone(), signature.clone(), wire(data)]);
            assert_eq!(verify(b"data"), Ok(Wire::Bool(true)));
            assert_eq!(verify(b"other"), Ok(Wire::Bool(false)));
        }
    }
}

#[test]
fn costs_are_bounded() {
    let pbkdf2 = |iterations: u32, length: u32| {
        once("crypto.heavy.pbkdf2", vec!["SHA-256".into(), wire(b"p"), wire(b"s"), iterations.into(), length.into()])
    };
    assert!(pbkdf2(1000, 32).is_ok());
    assert_eq!(pbkdf2(100_001, 32).expect_err("iterations").name, "NotSupportedError");
    assert_eq!(pbkdf2(100_000, 32 * 9).expect_err("work").name, "NotSupportedError");
    assert_eq!(pbkdf2(1, 2 << 20).expect_err("bytes").name, "OperationError");
    assert_eq!(pbkdf2(0, 32).expect_err("none").name, "OperationError");
    let rsa = |bits: u32, e: u32| once("crypto.heavy.rsaGenerate", vec![bits.into(), e.into()]);
    assert_eq!(rsa(8192, 65537).expect_err("bits").name, "OperationError");
    assert_eq!(rsa(2048, 65536).expect_err("exponent").name, "OperationError");
    let scrypt =
        |n: u32, r: u32, p: u32| once("crypto.heavy.scrypt", vec![wire(b"p"), wire(b"s"), n.into(), r.into(), p.into(), Wire::Int(32)]);
    assert!(scrypt(1024, 8, 1).is_ok());
    for (n, r, p) in [(1 << 20, 8, 1), (1024, 1 << 20, 1), (1024, 8, 1 << 20), (1000, 8, 1), (0, 8, 1), (1 << 31, u32::MAX, u32::MAX)] {
        assert_eq!(scrypt(n, r, p).expect_err("params").name, "RangeError");
    }
    assert_eq!(once("random", vec![Wire::Int(65537)]).expect_err("random").name, "QuotaExceededError");
}

/// Inflates a stream made of its own output, push by push, and returns what came and how it ended.
fn push_all(t: &mut Tables, id: &Wire<'_>, mut input: &[u8]) -> Result<(Vec<u8>, i32)> {
    let mut all = Vec::new();
    loop {
        let step = call(t, "zip.push", vec![id.clone(), wire(input), true.into()])?;
        let [output, consumed, Wire::Int(next)] = step.as_array().expect("array") else { panic!("not a step") };
        assert!(bytes(output).len() <= 64 * 1024 + 16);
        all.extend(bytes(output));
        input = &input[consumed.as_u32().expect("count") as usize..];
        if *next >= 2 {
            return Ok((all, *next));
        }
    }
}

#[test]
fn a_bomb_comes_in_pieces() {
    let mut t = Tables::default();
    for format in ["gzip", "deflate", "deflate-raw"] {
        let zip = call(&mut t, "zip.open", vec![format.into(), true.into()]).expect("open");
        let (small, _) = push_all(&mut t, &zip, &vec![0; 10 << 20]).expect("compressed");
        assert!(small.len() < 20_000);
        let unzip = call(&mut t, "zip.open", vec![format.into(), false.into()]).expect("open");
        let (big, next) = push_all(&mut t, &unzip, &small).expect("decompressed");
        assert_eq!((big.len(), next), (10 << 20, 2));
        let unzip = call(&mut t, "zip.open", vec![format.into(), false.into()]).expect("open");
        assert_eq!(push_all(&mut t, &unzip, &[small, vec![1]].concat()).expect("with junk").1, 3);
    }
    assert_eq!(t.bytes(), 0);
}

#[test]
fn tables_are_bounded_and_forget() {
    let mut t = Tables::default();
    let open = |t: &mut Tables| call(t, "zip.open", vec!["gzip".into(), true.into()]);
    let ids: Vec<_> = (0..Tables::MAX_CODECS).map(|_| open(&mut t).expect("room")).collect();
    assert_eq!(open(&mut t).expect_err("full").name, "RangeError");
    call(&mut t, "zip.drop", vec![ids[3].clone()]).expect("dropped");
    assert!(open(&mut t).is_ok());
    let gone = call(&mut t, "zip.push", vec![ids[3].clone(), wire(b""), true.into()]);
    assert_eq!(gone.expect_err("gone").name, "HibernationError");
}

#[test]
fn legacy_text_keeps_its_place_between_calls() {
    let mut t = Tables::default();
    let mut decode = |id: Wire<'_>, b: &[u8], stream: bool| {
        let args = vec![id, "shift_jis".into(), wire(b), false.into(), false.into(), stream.into()];
        let answer = call(&mut t, "text.decode", args).expect("decoded");
        let [text, id] = answer.as_array().expect("array") else { panic!("not a pair") };
        (text.as_str().expect("text").into_owned(), id.clone())
    };
    let (a, id) = decode(Wire::Int(0), &[0x93], true);
    let (b, end) = decode(id, &[0xFA], false);
    assert_eq!((a + &b, end), ("日".to_owned(), Wire::Int(0)));
    assert_eq!(once("text.label", vec![" Latin1\n".into()]), Ok("windows-1252".into()));
    assert_eq!(once("text.label", vec!["replacement".into()]), Ok(Wire::Null));
}

const WORDS: &[&str] = &[
    "SHA-256",
    "SHA-1",
    "md5",
    "P-256",
    "P-384",
    "P-521",
    "Ed25519",
    "X25519",
    "raw",
    "scalar",
    "spki",
    "pkcs8",
    "jwk",
    "pkcs1",
    "pss",
    "cbc",
    "ctr",
    "gcm",
    "gzip",
    "deflate",
    "deflate-raw",
    "utf-16le",
    "gb18030",
    "iso-2022-jp",
    "http://a.b/c?d#e",
    "href",
    "host",
    "port",
    "pathname",
    "xn--",
    "\u{FF0E}",
    "http://[::1]:99999/",
    "",
    "data:x",
    "file:///c|/",
    "host",
    "protocol",
    "javascript:",
    ":",
    "//",
];

/// Keys that are nearly right: real DER with a byte changed.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let pkcs8 = hex("302e020100300506032b657004220420d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842");
    let rsa = hex(
        "30820156020100300d06092a864886f70d0101010500048201403082013c020100024100c8ec4af7d4f2f34c3a9c7d4f4e19dd0d3b4a3cfdcd8a7c87f3b8f7bcb49d6bd5",
    );
    (prop_oneof![Just(pkcs8), Just(rsa)], any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(mut der, at, with)| {
        let at = at.index(der.len());
        der[at] = with;
        der
    })
}

fn argument() -> impl Strategy<Value = WireOut> {
    let lengths = prop_oneof![
        Just(0usize),
        Just(1),
        Just(8),
        Just(12),
        Just(16),
        Just(24),
        Just(32),
        Just(48),
        Just(64),
        Just(65),
        Just(66),
        Just(133),
        0usize..200
    ];
    let raw = lengths.prop_flat_map(|n| proptest::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], n));
    let leaf = prop_oneof![
        4 => proptest::sample::select(WORDS).prop_map(|w| Wire::from(w.to_owned())),
        4 => raw.prop_map(Wire::from),
        1 => key().prop_map(Wire::from),
        1 => ".{0,20}".prop_map(Wire::from),
        2 => (0..200i32).prop_map(Wire::Int),
        1 => any::<f64>().prop_map(Wire::Number),
        1 => Just(Wire::Null),
        1 => any::<bool>().prop_map(Wire::Bool),
    ];
    prop_oneof![5 => leaf.clone(), 1 => proptest::collection::vec(leaf, 0..6).prop_map(Wire::Array)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// No panic either, which `guarded` would have turned into this very error.
    #[test]
    fn whatever_the_arguments_there_is_an_answer(calls in proptest::collection::vec((proptest::sample::select(OPERATIONS), proptest::collection::vec(argument(), 0..7)), 1..6)) {
        let mut t = Tables::default();
        for (op, args) in calls {
            if let Err(e) = call(&mut t, op, args) {
                prop_assert_ne!(e.message, "the operation failed on these arguments");
            }
        }
    }

    /// Damaged data is decompressed or refused, and leaves nothing open.
    #[test]
    fn gzip_survives_any_cut(data in proptest::collection::vec(any::<u8>(), 0..300), at in any::<proptest::sample::Index>(), with in any::<u8>()) {
        let mut t = Tables::default();
        let zip = call(&mut t, "zip.open", vec!["gzip".into(), true.into()]).expect("open");
        let (mut small, _) = push_all(&mut t, &zip, &data).expect("compressed");
        let at = at.index(small.len());
        small[at] = with;
        let unzip = call(&mut t, "zip.open", vec!["gzip".into(), false.into()]).expect("open");
        let _ = push_all(&mut t, &unzip, &small);
        call(&mut t, "zip.drop", vec![unzip]).expect("dropped");
        prop_assert_eq!(t.bytes(), 0);
    }
}
