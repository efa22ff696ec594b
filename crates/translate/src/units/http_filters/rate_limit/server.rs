//! Which server counts, and how it is asked.

use std::sync::Arc;

use meshrelay_api::Duration;
use meshrelay_api::admin::RateLimitServerSettingsSpec;
use meshrelay_api::references::{DestinationKind, ObjectReference};
use serde_json::{Value, json};

use super::{RateLimitPolicy, named};
use crate::ResourceRef;
use crate::input::{ClusterInput, Input, Ours};
use crate::model::Workspace;
use crate::report::{Code, Finding};
use crate::units::http_filters::caller::{Caller, DefaultService};
use crate::units::route_table::Target;

/// The Service that counts where nobody says otherwise.
const DEFAULT: DefaultService = DefaultService {
    name: "rate-limiter",
    port: ("grpc", 8083),
    instead_of: "RateLimitServerSettings",
    code: Code::NoRateLimitServer,
};

/// Type of the filter.
const RATE_LIMIT: &str = "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit";

/// What the servers call all that they count.
const DOMAIN: &str = "solo.io";

/// A stage that nobody's own rate limits have, as these are none of the server's business. What our routes tell has no
/// stage.
const STAGE: u32 = 10;

/// How long an answer may take unless the settings say otherwise.
const TIMEOUT: Duration = Duration::from_nanos(100_000_000);

/// The server of a policy, as some proxies reach it.
pub(super) struct Server {
    /// The RateLimitServerSettings, if there are any.
    pub(super) source: Option<ResourceRef>,
    settings: Option<Arc<Input<Ours<RateLimitServerSettingsSpec>>>>,
    pub(super) target: Result<Target, Finding>,
}

impl Server {
    /// The server of the settings that the policy names, else the usual Service.
    ///
    /// # Errors
    /// When the settings do not exist.
    pub(super) fn find(
        caller: &Caller<'_>,
        policy: &RateLimitPolicy,
        reference: Option<&ObjectReference>,
        owner: &Workspace,
    ) -> Result<Self, Finding> {
        let model = caller.model;
        let Some(reference) = reference else {
            let target = caller.default_service(&DEFAULT, &policy.source, owner);
            return Ok(Self { source: None, settings: None, target });
        };
        let table = ClusterInput::rate_limit_server_settings;
        let (source, settings) = named(model, &policy.source, reference, "RateLimitServerSettings", table)
            .map_err(|text| (Code::NotFound, format!("spec.config.serverSettings: {text}")))?;
        // Settings may be named from other workspaces; what they stand for is seen by their own.
        let owner = model.owner(&source.cluster, &source.key.namespace).unwrap_or(owner);
        let target = match &settings.spec.destination_server {
            None => caller.default_service(&DEFAULT, &source, owner),
            Some(destination) if destination.kind == DestinationKind::ExternalService => {
                let text = "spec.destinationServer: expected a Service or VirtualDestination, found an ExternalService";
                Err((Code::BadValue, text.to_owned()))
            }
            Some(destination) => caller
                .find(destination, &source, owner)
                .map_err(|(code, problem)| (code, format!("spec.destinationServer: {problem}"))),
        };
        Ok(Self { source: Some(source), settings: Some(Arc::clone(settings)), target })
    }

    /// Begins what policies are told that is wrong with the settings.
    pub(super) fn place(&self) -> String {
        self.source.as_ref().map(|source| format!("{source}: ")).unwrap_or_default()
    }

    /// Whether requests are refused when the server does not answer.
    pub(super) fn denies(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.spec.deny_on_fail)
    }

    /// Tells its filter from those of other servers.
    pub(super) fn name(&self, target: &Target) -> String {
        let path = |ResourceRef { cluster, key }: &ResourceRef| format!("{cluster}/{}/{}", key.namespace, key.name);
        self.source.as_ref().map_or_else(|| format!("default/{}", path(&target.destination)), path)
    }

    /// The configuration of the filter.
    pub(super) fn filter(&self, target: &Target) -> Value {
        let timeout = self.settings.as_ref().and_then(|settings| settings.spec.request_timeout);
        let service = json!({"clusterName": target.envoy_cluster(), "authority": target.authority()});
        json!({
            "@type": RATE_LIMIT,
            "domain": DOMAIN,
            "failureModeDeny": self.denies(),
            "rateLimitService": {"grpcService": {"envoyGrpc": service}, "transportApiVersion": "V3"},
            "requestType": "both",
            "stage": STAGE,
            "timeout": timeout.filter(|timeout| timeout.as_nanos() > 0).unwrap_or(TIMEOUT),
        })
    }
}

/// What is wrong with settings, beyond where the server is; defaults take the place of that.
pub(super) fn problem(spec: &RateLimitServerSettingsSpec) -> Option<Finding> {
    let timeout = spec.request_timeout.filter(|timeout| timeout.as_nanos() <= 0)?;
    let text = format!("spec.requestTimeout: expected more than 0, found {timeout}: {TIMEOUT} takes its place");
    Some((Code::BadValue, text))
}
