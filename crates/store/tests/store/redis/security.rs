//! Log-in, permissions, TLS.

use std::path::{Path, PathBuf};

use meshrelay_store::{RedisSettings, RedisStore, SnapshotId, SnapshotStore as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::faults::error_while_away;
use super::{connected, reaches, settings, suite};
use crate::sample;
use meshrelay_testbed::Redis;

const PASSWORD: &str = "hunter2-and-more";

/// All that `docs/redis.md` tells an operator to permit.
pub(crate) const PERMISSIONS: &str = "+eval +evalsha +hget +hmget +hgetall +hset +hdel +hincrby +del +xadd +xread +xrange \
                           +pexpire +pttl +time +info";

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Settings that log in as that user.
pub(crate) fn login(server: &Redis, user: &str, password: &str) -> RedisSettings {
    let mut settings = settings(server.address());
    settings.auth.enabled = true;
    settings.auth.username_file = write(server.directory(), "username", user);
    // As editors leave it.
    settings.auth.password_file = write(server.directory(), "password", &format!("{password}\n"));
    settings
}

fn assert_says_no_password(store: &RedisStore) {
    let said = format!("{store:?} {:?}", store.health().borrow());
    assert!(!said.contains("hunter"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_documented_permissions_can_do_everything() {
    let server = Redis::start(&["--requirepass", "admin"]);
    server.run(&format!("ACL SETUSER plane reset on >{PASSWORD} ~{{meshrelay:*}}:* {PERMISSIONS}"));
    suite(&login(&server, "plane", PASSWORD)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_permission_is_told() {
    let server = Redis::start(&["--requirepass", "admin"]);
    let settings = login(&server, "plane", PASSWORD);
    for permission in ["+hincrby", "+xadd", "+hset", "+evalsha"] {
        server.run(&format!("ACL SETUSER plane reset on >{PASSWORD} ~{{meshrelay:*}}:* {PERMISSIONS}"));
        server.run(&format!("ACL SETUSER plane {}", permission.replace('+', "-")));
        server.run("FLUSHALL");
        let store = RedisStore::start(settings.clone(), "test").unwrap();
        let id = SnapshotId::input("cluster1");
        // Without what the first look needs, the store is away for that reason; otherwise the write is refused.
        let error =
            crate::conformance::wait_for("a refusal", async || match store.put(&id, &sample::version(1, "a")).await {
                Err(error) if error.code() == "MR0903" => Ok(error),
                other => Err(format!("{other:?}")),
            })
            .await;
        assert!(error.to_string().contains("docs/redis.md"), "{permission}: {error}");
        assert_says_no_password(&store);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_a_corrected_one_is_taken() {
    let server = Redis::start(&["--requirepass", PASSWORD]);
    let settings = login(&server, "", "hunter3");
    let store = RedisStore::start(settings.clone(), "test").unwrap();
    let error = error_while_away(&store, "MR0902").await;
    assert!(error.to_string().contains("auth.passwordFile"), "{error}");
    assert_says_no_password(&store);
    let id = SnapshotId::input("cluster1");
    let error = store.put(&id, &sample::version(1, "a")).await.unwrap_err();
    assert_eq!(error.code(), "MR0902");

    std::fs::write(&settings.auth.password_file, PASSWORD).unwrap();
    reaches(&store).await;
    store.put(&id, &sample::version(1, "a")).await.unwrap();
    assert_says_no_password(&store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_log_in_is_told() {
    let server = Redis::start(&["--requirepass", PASSWORD]);
    let store = RedisStore::start(settings(server.address()), "test").unwrap();
    error_while_away(&store, "MR0902").await;

    let mut settings = login(&server, "", PASSWORD);
    // No user is the default user; no password is a mistake.
    settings.auth.username_file = server.directory().join("none");
    connected(&settings, "test").await;
    settings.auth.password_file = server.directory().join("none");
    let store = RedisStore::start(settings, "test").unwrap();
    let error = error_while_away(&store, "MR0913").await;
    assert!(error.to_string().contains("/none"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_repeats_what_it_was_sent_gives_nothing_away() {
    // Without a command of that name it says which words it did not understand: the password.
    let server = Redis::start(&["--rename-command", "AUTH", "NOT-AUTH"]);
    let store = RedisStore::start(login(&server, "plane", PASSWORD), "test").unwrap();
    let error = error_while_away(&store, "MR0902").await;
    assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
    assert_says_no_password(&store);
}

/// An authority and what it signed, as files.
struct Certificates {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

fn certificates(directory: &Path, name: &str) -> Certificates {
    let mut params = CertificateParams::new(vec![]).unwrap();
    // The same name as that of what it signs would make that look self-signed.
    params.distinguished_name.push(DnType::CommonName, format!("authority of {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    Certificates {
        ca: write(directory, &format!("{name}-ca.pem"), &ca.pem()),
        certificate: write(directory, &format!("{name}.pem"), &leaf.pem()),
        key: write(directory, &format!("{name}.key"), &key.serialize_pem()),
    }
}

/// A server that speaks TLS alone and asks for the client's certificate, and settings for it.
fn over_tls() -> (Redis, RedisSettings, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let Certificates { ca, certificate, key } = certificates(directory.path(), "server");
    let path = |path: &Path| path.display().to_string();
    let server = Redis::start(&[
        "--port",
        "0",
        "--tls-port",
        "PORT",
        "--tls-ca-cert-file",
        &path(&ca),
        "--tls-cert-file",
        &path(&certificate),
        "--tls-key-file",
        &path(&key),
    ]);
    let mut settings = settings(server.address());
    settings.certs.enabled = true;
    settings.certs.ca_cert_file = Some(ca);
    (settings.certs.cert_file, settings.certs.key_file) = (Some(certificate), Some(key));
    (server, settings, directory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_over_tls() {
    let (_server, settings, _directory) = over_tls();
    suite(&settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_certificate_is_told_and_a_corrected_one_is_taken() {
    let (_server, settings, directory) = over_tls();
    let ca = settings.certs.ca_cert_file.clone().unwrap();
    let right = std::fs::read(&ca).unwrap();
    std::fs::copy(certificates(directory.path(), "other").ca, &ca).unwrap();
    let store = RedisStore::start(settings.clone(), "test").unwrap();
    let error = error_while_away(&store, "MR0900").await;
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    std::fs::write(&ca, "no certificate").unwrap();
    error_while_away(&store, "MR0913").await;
    std::fs::write(&ca, right).unwrap();
    reaches(&store).await;

    // Without a certificate of ours, and without TLS at all.
    let mut without = settings.clone();
    (without.certs.cert_file, without.certs.key_file) = (None, None);
    error_while_away(&RedisStore::start(without.clone(), "test").unwrap(), "MR0900").await;
    without.certs.enabled = false;
    error_while_away(&RedisStore::start(without, "test").unwrap(), "MR0900").await;
}
