//! The HTTP endpoints that every process has: health and readiness, and metrics for Prometheus.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// Content type of OpenMetrics text, which newer Prometheus servers ask for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Content type of the older Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /` and `/readyz` answer 200 when ready, otherwise 503 with one line per task that is waited for; `/healthz`
/// answers 200 as long as the process runs. Notes follow, a line each.
pub fn health_router(readiness: Readiness) -> Router {
    let ready = |State(readiness): State<Readiness>| async move {
        let pending = readiness.pending();
        let notes: String = readiness.notes().iter().map(|note| format!("{note}\n")).collect();
        if pending.is_empty() {
            (StatusCode::OK, format!("ready\n{notes}"))
        } else {
            let lines: String = pending.iter().map(|task| format!("waiting for {task}\n")).collect();
            (StatusCode::SERVICE_UNAVAILABLE, lines + &notes)
        }
    };
    Router::new()
        .route("/", get(ready))
        .route("/readyz", get(ready))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(readiness)
}

/// `GET /status`: the newest status of a process as JSON. It reads and nothing else, and holds no secrets, as `/metrics`.
pub fn status_router<S: Serialize + Send + Sync + 'static>(status: watch::Receiver<S>) -> Router {
    let read = |State(status): State<watch::Receiver<S>>| async move {
        // Written at once, so that nobody who changes the status waits for a slow reader.
        let written = serde_json::to_vec_pretty(&*status.borrow());
        match written {
            Ok(mut text) => {
                text.push(b'\n');
                ([(header::CONTENT_TYPE, "application/json")], text).into_response()
            }
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    };
    Router::new().route("/status", get(read)).with_state(status)
}

/// `GET /metrics` in OpenMetrics text for those whose `Accept` header names it, otherwise in the older text format.
pub fn metrics_router(registry: Arc<Registry>) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(registry)
}

async fn metrics(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> Response {
    let mut text = String::new();
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics could not be written: {error}\n")).into_response();
    }
    let accepts_open_metrics = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/openmetrics-text"));
    let (content_type, text) =
        if accepts_open_metrics { (OPEN_METRICS, text) } else { (PROMETHEUS_TEXT, prometheus_text(&text)) };
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// The older text format of what is in OpenMetrics text. They differ in what we write by the name that a counter is
/// described under, which OpenMetrics gives without `_total`, by the name of the type that is not known, and by the end.
fn prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // The help of a metric comes before its type, on which its name depends.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let kind = if kind == "unknown" { "untyped" } else { kind };
            if let Some((_, help)) = help.take().and_then(|help| help.split_once(' ')) {
                text.extend(["# HELP ", name, suffix, " ", help, "\n"]);
            }
            text.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.extend([line, "\n"]);
        }
    }
    text
}

/// Serves a router until the token is cancelled. Returns the address that was bound (port 0 asks for a free one) and
/// the task that serves.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(
    address: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let task = tokio::spawn(async move {
        let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = server.await {
            tracing::error!(%error, "admin endpoint ended");
        }
    });
    Ok((bound, task))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get_text(router: &Router, path: &str) -> (StatusCode, String) {
        let response = router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        (status, String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_what_is_waited_for() {
        let readiness = Readiness::new();
        let router = health_router(readiness.clone());
        let guard = readiness.register_task("first listing of cluster1");
        assert_eq!(
            get_text(&router, "/").await,
            (StatusCode::SERVICE_UNAVAILABLE, "waiting for first listing of cluster1\n".to_owned())
        );
        assert_eq!(get_text(&router, "/healthz").await.0, StatusCode::OK);
        drop(guard);
        assert_eq!(get_text(&router, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));
        readiness.note("deletions", Some("12 deletions are held".to_owned()));
        assert_eq!(get_text(&router, "/readyz").await, (StatusCode::OK, "ready\n12 deletions are held\n".to_owned()));
        readiness.note("deletions", None);
        assert_eq!(get_text(&router, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));
    }

    #[tokio::test]
    async fn the_newest_status_is_served_as_json() {
        let (sender, receiver) = watch::channel(vec![1]);
        let router = status_router(receiver);
        sender.send_replace(vec![1, 2]);
        let (code, text) = get_text(&router, "/status").await;
        assert_eq!((code, serde_json::from_str::<Vec<i32>>(&text).unwrap()), (StatusCode::OK, vec![1, 2]));
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let mut registry = Registry::default();
        let gauge = prometheus_client::metrics::gauge::Gauge::<i64>::default();
        registry.register("relay_push_clients_connected", "connected", gauge.clone());
        gauge.set(3);
        let (status, text) = get_text(&metrics_router(Arc::new(registry)), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("relay_push_clients_connected 3"), "{text}");
    }

    #[tokio::test]
    async fn a_counter_is_described_under_its_name_in_either_format() {
        let mut registry = Registry::default();
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        registry.register("object_write_fails", "objects not written", counter.clone());
        counter.inc();
        let router = metrics_router(Arc::new(registry));
        let (_, text) = get_text(&router, "/metrics").await;
        assert_eq!(
            text,
            "# HELP object_write_fails_total objects not written.\n# TYPE object_write_fails_total counter\n\
             object_write_fails_total 1\n"
        );
        let request = Request::get("/metrics").header(header::ACCEPT, OPEN_METRICS).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], OPEN_METRICS);
        let text = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let expected = "# HELP object_write_fails objects not written.\n# TYPE object_write_fails counter\n\
                        object_write_fails_total 1\n# EOF\n";
        assert_eq!(text, expected.as_bytes());
    }
}
