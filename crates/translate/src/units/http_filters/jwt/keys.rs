//! Public keys in the form that Envoy reads, JWKS, out of the forms that people write.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Why a text holds no keys.
type Problem = String;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// Object identifiers of key types, RFC 3279, RFC 5480 and RFC 8410.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Curves by object identifier, with their names and the length of a coordinate in bytes.
const CURVES: [(&[u8], &str, usize); 3] = [
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], "P-256", 32),
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], "P-384", 48),
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], "P-521", 66),
];

/// The keys of a text as a JWKS document: of JWKS, of a single JWK, or of public keys in PEM.
///
/// # Errors
/// When the text is none of these, or holds a key that Envoy cannot use.
pub(super) fn jwks(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    let keys = if text.starts_with('{') {
        let document: Value = serde_json::from_str(text).map_err(|error| format!("expected JWKS, found {error}"))?;
        match document.get("keys") {
            Some(Value::Array(keys)) => keys.clone(),
            Some(_) => return Err("expected a list of keys in the JWKS".to_owned()),
            None => vec![document],
        }
    } else {
        pem_keys(text)?
    };
    if keys.is_empty() {
        return Err("expected a public key in PEM or JWKS, found none".to_owned());
    }
    if let Some(key) = keys.iter().find(|key| !key.get("kty").is_some_and(Value::is_string)) {
        return Err(format!("expected kty in each key of the JWKS, found {key}"));
    }
    Ok(json!({"keys": keys}).to_string())
}

/// The key of each block of a PEM document.
fn pem_keys(text: &str) -> Result<Vec<Value>, Problem> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, block)) = rest.split_once("-----BEGIN ") {
        let (label, block) = block.split_once("-----").ok_or("expected the end of a PEM label")?;
        let (body, after) = block
            .split_once(&format!("-----END {label}-----"))
            .ok_or_else(|| format!("expected END {label} in the PEM"))?;
        rest = after;
        let body: String = body.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|error| format!("expected base64 in the PEM, found {error}"))?;
        let broken = || format!("the {label} in the PEM is cut off or of an unknown form");
        keys.push(match label {
            "PUBLIC KEY" => public_key(&der).ok_or_else(broken)??,
            "RSA PUBLIC KEY" => rsa(&der).ok_or_else(broken)?,
            other => return Err(format!("expected PUBLIC KEY in the PEM, found {other}")),
        });
    }
    Ok(keys)
}

/// A `SubjectPublicKeyInfo`; `None` if it is no such structure.
fn public_key(der: &[u8]) -> Option<Result<Value, Problem>> {
    let mut info = Der(Der(der).take(SEQUENCE)?);
    let mut algorithm = Der(info.take(SEQUENCE)?);
    let kind = algorithm.take(OBJECT_ID)?;
    // The first byte counts unused bits, of which keys have none.
    let key = info.take(BIT_STRING)?.strip_prefix(&[0])?;
    Some(match kind {
        RSA => Ok(rsa(key)?),
        ED25519 => Ok(json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key)})),
        ELLIPTIC => {
            let id = algorithm.take(OBJECT_ID)?;
            let Some((_, curve, size)) = CURVES.iter().find(|(known, ..)| *known == id) else {
                return Some(Err("expected a key on the curve P-256, P-384 or P-521".to_owned()));
            };
            // Only points that are written out can be told in a JWK.
            let (x, y) = key.strip_prefix(&[4])?.split_at_checked(*size).filter(|(_, y)| y.len() == *size)?;
            Ok(json!({"kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}))
        }
        _ => Err("expected an RSA, elliptic curve or Ed25519 key".to_owned()),
    })
}

/// A `RSAPublicKey`.
fn rsa(der: &[u8]) -> Option<Value> {
    let mut numbers = Der(Der(der).take(SEQUENCE)?);
    let number = |bytes: &[u8]| {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        URL_SAFE_NO_PAD.encode(bytes.get(start..).unwrap_or_default())
    };
    let (n, e) = (numbers.take(INTEGER)?, numbers.take(INTEGER)?);
    Some(json!({"kty": "RSA", "n": number(n), "e": number(e)}))
}

/// Values in DER, one behind the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next value, which has to have this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(2)?;
        if head.first() != Some(&tag) {
            return None;
        }
        let short = usize::from(*head.get(1)?);
        let (length, rest) = if short < 0x80 {
            (short, rest)
        } else {
            let (digits, rest) = rest.split_at_checked(short - 0x80).filter(|(digits, _)| digits.len() <= 4)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAoaUOQ6u0deS183is+boe
1RuWWnPvU8L0ZDeMKtah1aTvjKYcwuH0vghemypM73gxhK6YJMZK/kc7VlWXMnAb
RSEuvoTWkyFu9qYU33c9hh0ftn70Tmo2jkf02CHeJYVEC1KO0kg2MTWYbLtsKNs5
wu0pRtoU2hyTGrJ5+G+uAzO3Qqtj95GipPFrdZ76nvkiLKCO3x9JZ8AwiGnQolTh
PoITJKqwtSgPTNpr8N4Zfd4EI7iyX/7lMS7cnOnzcFSBgZvqIHXFXCTrwgV86Uxy
FYzVTQjnoViFj6xd7HImQU1uRC8Dod4eiqTzdWx5q4uGnUhsLd+CJikMK43KUcJI
jQIDAQAB
-----END PUBLIC KEY-----";
    const EC_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFB5IEc6S7G1YSCcj0XcjH1913sRN
Qh99sq+xv/wcsQb5/r7RuW1lWPpeEmf5p2HspezL6eY9j3zi2YXS0ut5KA==
-----END PUBLIC KEY-----";
    const ED_PEM: &str = "\
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAgh0QEI0C09FuoJeZIO/V3vGtOAmDKlmfLiwLOot1+Rk=
-----END PUBLIC KEY-----";

    fn keys(text: &str) -> Value {
        serde_json::from_str::<Value>(&jwks(text).unwrap()).unwrap()["keys"].clone()
    }

    #[test]
    fn public_keys_in_pem_become_jwks() {
        let rsa = keys(RSA_PEM);
        let n = rsa[0]["n"].as_str().unwrap();
        assert!(n.starts_with("oaUOQ6u0deS183is-boe1RuW") && n.ends_with("-CJikMK43KUcJIjQ"), "{n}");
        assert_eq!((n.len(), &rsa[0]["kty"], &rsa[0]["e"]), (342, &json!("RSA"), &json!("AQAB")));
        assert_eq!(
            keys(&format!("{EC_PEM}\n{ED_PEM}")),
            json!([
                {
                    "kty": "EC",
                    "crv": "P-256",
                    "x": "FB5IEc6S7G1YSCcj0XcjH1913sRNQh99sq-xv_wcsQY",
                    "y": "-f6-0bltZVj6XhJn-adh7KXsy-nmPY984tmF0tLreSg",
                },
                {"kty": "OKP", "crv": "Ed25519", "x": "gh0QEI0C09FuoJeZIO_V3vGtOAmDKlmfLiwLOot1-Rk"},
            ])
        );
        // The key of a SubjectPublicKeyInfo, alone, is in the older form.
        let inner: String = RSA_PEM.lines().filter(|line| !line.starts_with('-')).collect();
        let inner = STANDARD.encode(&STANDARD.decode(inner).unwrap()[24..]);
        assert_eq!(keys(&format!("-----BEGIN RSA PUBLIC KEY-----\n{inner}\n-----END RSA PUBLIC KEY-----")), rsa);
    }

    #[test]
    fn jwks_and_single_keys_are_taken_as_they_are() {
        let key = json!({"kty": "RSA", "n": "a", "e": "AQAB", "kid": "1"});
        assert_eq!(keys(&json!({"keys": [key]}).to_string()), json!([key]));
        assert_eq!(keys(&format!("\n {key}")), json!([key]));
    }

    #[test]
    fn what_holds_no_usable_key_is_refused() {
        let cut = RSA_PEM.lines().filter(|line| !line.starts_with("RSEuvoTW")).collect::<Vec<_>>().join("\n");
        for (text, problem) in [
            ("", "expected a public key in PEM or JWKS, found none"),
            ("{\"keys\": []}", "expected a public key in PEM or JWKS, found none"),
            ("{", "expected JWKS, found"),
            ("{\"keys\": {}}", "expected a list of keys"),
            ("{}", "expected kty in each key"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "expected PUBLIC KEY in the PEM"),
            ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----", "expected base64"),
            ("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----", "cut off or of an unknown form"),
            ("-----BEGIN PUBLIC KEY-----\nMIT/////\n-----END PUBLIC KEY-----", "cut off or of an unknown form"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA", "expected END PUBLIC KEY"),
            (cut.as_str(), "cut off or of an unknown form"),
        ] {
            let found = jwks(text).unwrap_err();
            assert!(found.contains(problem), "{text}: {found}");
        }
    }
}
