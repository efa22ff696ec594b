//! AccessPolicies, each resolved once for all that it applies to.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use meshrelay_api::references::DestinationKind;
use meshrelay_api::security::{
    AccessConfig, AccessPolicySpec, Authorization, IdentitySelector, WorkloadObjectSelector,
};
use meshrelay_api::selectors::DestinationSelector;
use meshrelay_snapshot::Name;
use serde_json::Value;

use super::effect::{Client, Effect, Grant, Layers, Tls, Who};
use crate::ResourceRef;
use crate::fingerprint::{Derived, Shared};
use crate::model::{Model, Workspace};
use crate::policies::Policy;
use crate::report::{Code, Notes, Severity};

/// Fields of the settings that say who may call.
const AUTHZ: [&str; 2] = ["authz", "authzList"];

/// A policy with what it says.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) policy: Arc<Policy<AccessPolicySpec>>,
    /// Position among the policies of its workspace, the oldest first.
    pub(super) rank: usize,
    pub(super) effect: Shared<Effect>,
    pub(super) sources: Shared<Vec<ResourceRef>>,
    pub(super) targets: Targets,
}

impl Hash for Access {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The targets follow from the policy.
        (&self.policy, self.rank, &self.effect).hash(state);
    }
}

/// What a policy applies to.
#[derive(Clone, Debug)]
pub(super) enum Targets {
    Workloads(Vec<WorkloadObjectSelector>),
    Destinations(Vec<DestinationSelector>),
}

impl Access {
    pub(super) fn resolve(
        model: &Model,
        workspace: &Workspace,
        rank: usize,
        policy: &Arc<Policy<AccessPolicySpec>>,
        notes: &mut Notes,
    ) -> Self {
        let mut reading = Reading { model, workspace, policy, notes };
        let targets = reading.targets();
        let effect = Shared::new(reading.effect());
        reading.note_isolation(&targets, &effect);
        let allowed = super::effect::identities(&effect).len();
        notes.count(&policy.source, "numAllowedServiceAccounts", allowed);
        let sources = Shared::new(vec![policy.source.clone()]);
        Self { policy: Arc::clone(policy), rank, effect, sources, targets }
    }

    /// The labels of the pods that the policy picks in a namespace.
    pub(super) fn picks<'a>(
        &'a self,
        cluster: &str,
        namespace: &str,
        workspace: &str,
    ) -> impl Iterator<Item = &'a BTreeMap<String, String>> {
        let selectors = match &self.targets {
            Targets::Workloads(selectors) => selectors.as_slice(),
            Targets::Destinations(_) => &[],
        };
        let is = |wanted: &str, found: &str| wanted.is_empty() || found == wanted;
        selectors
            .iter()
            .filter(move |selector| {
                is(&selector.cluster, cluster)
                    && is(&selector.namespace, namespace)
                    && is(&selector.workspace, workspace)
            })
            .map(|selector| &selector.labels)
    }

    /// The selectors of Services, as far as they may pick one in a namespace.
    pub(super) fn destinations<'a>(
        &'a self,
        cluster: &str,
        namespace: &str,
    ) -> impl Iterator<Item = &'a DestinationSelector> {
        let selectors = match &self.targets {
            Targets::Workloads(_) => &[],
            Targets::Destinations(selectors) => selectors.as_slice(),
        };
        let is = |wanted: &str, found: &str| wanted.is_empty() || found == wanted;
        selectors.iter().filter(move |selector| {
            selector
                .selector
                .as_ref()
                .is_none_or(|selector| is(&selector.cluster, cluster) && is(&selector.namespace, namespace))
        })
    }
}

/// Reads a policy, and says what is wrong with it.
struct Reading<'a> {
    model: &'a Model,
    workspace: &'a Workspace,
    policy: &'a Policy<AccessPolicySpec>,
    notes: &'a mut Notes,
}

impl Reading<'_> {
    fn say(&mut self, severity: Severity, code: Code, text: impl Into<String>) {
        self.notes.say(&self.policy.source, severity, code, text);
    }

    fn targets(&mut self) -> Targets {
        let spec = &self.policy.input.spec;
        if !spec.apply_to_workloads.is_empty() {
            if !spec.apply_to_destinations.is_empty() {
                let text = "spec.applyToDestinations has no effect beside spec.applyToWorkloads";
                self.say(Severity::Warning, Code::BadValue, text);
            }
            let selector = spec.apply_to_workloads.iter().map(|entry| entry.selector.clone().unwrap_or_default());
            return Targets::Workloads(selector.collect());
        }
        if spec.apply_to_destinations.is_empty() {
            return Targets::Destinations(vec![DestinationSelector::default()]);
        }
        let mut services = Vec::new();
        for (index, selector) in spec.apply_to_destinations.iter().enumerate() {
            let path = format!("spec.applyToDestinations[{index}].kind");
            match &selector.kind {
                DestinationKind::Service => services.push(selector.clone()),
                DestinationKind::ExternalService => {
                    let text = format!(
                        "{path}: EXTERNAL_SERVICE is not translated yet: who may call it at an egress gateway stays as \
                         it is"
                    );
                    self.say(Severity::Warning, Code::NotTranslated, text);
                }
                other => {
                    let text = format!(
                        "{path}: expected SERVICE, found {}: select the Services behind it: they are what callers \
                         reach",
                        other.as_str()
                    );
                    self.say(Severity::Invalid, Code::BadValue, text);
                }
            }
        }
        Targets::Destinations(services)
    }

    /// What a policy says that cannot be read: nobody may call, if it is about that.
    fn effect_of_flaw(&mut self) -> Effect {
        let object = self.policy.input.object.value();
        let says_nothing = |config: &Value| config.is_object() && AUTHZ.iter().all(|field| config.get(field).is_none());
        let is_about_callers = !object.pointer("/spec/config").is_none_or(says_nothing);
        if is_about_callers {
            self.say(Severity::Invalid, Code::BadType, "spec.config cannot be read: nobody may call what it selects");
        }
        let tls = self.workspace.settings.isolation().map(|_| Tls::Strict);
        Effect { grants: is_about_callers.then(Vec::new), tls, layers: None, reads: Derived::default() }
    }

    fn effect(&mut self) -> Effect {
        if self.policy.input.flaw.is_some() {
            return self.effect_of_flaw();
        }
        let nothing = AccessConfig::default();
        let config = self.policy.input.spec.config.as_ref().unwrap_or(&nothing);
        let list = match (&config.authz, config.authz_list.as_slice()) {
            (None, []) => None,
            (Some(authz), []) => Some(vec![("spec.config.authz".to_owned(), authz)]),
            (authz, list) => {
                if authz.is_some() {
                    let text = "spec.config.authz has no effect beside spec.config.authzList";
                    self.say(Severity::Warning, Code::BadValue, text);
                }
                let entry = |(index, authz)| (format!("spec.config.authzList[{index}]"), authz);
                Some(list.iter().enumerate().map(entry).collect())
            }
        };
        let grants = list.map(|list| list.into_iter().map(|(path, authz)| self.grant(&path, authz)).collect());
        let mut tls = config.authn.as_ref().and_then(|authn| Tls::new(&authn.tls_mode));
        if self.workspace.settings.isolation().is_some() {
            if let Some(mode) = tls.filter(|mode| *mode != Tls::Strict) {
                let text = format!(
                    "spec.config.authn.tlsMode: {} counts as STRICT, because the workspace is isolated",
                    mode.as_str()
                );
                self.say(Severity::Warning, Code::Isolated, text);
            }
            tls = Some(Tls::Strict);
        }
        if grants.is_none() && tls.is_none() {
            let text = "expected spec.config.authn, authz or authzList, found none: no effect";
            self.say(Severity::Warning, Code::Missing, text);
        }
        let layers = Layers::chosen(config.enforcement_layers.as_ref());
        if layers.is_none() && config.enforcement_layers.is_some() {
            let text = "spec.config.enforcementLayers: expected cni or mesh to be true, found neither: everything \
                        available enforces the policy";
            self.say(Severity::Warning, Code::BadValue, text);
        }
        let effect = Effect { grants, tls, layers, reads: Derived::default() };
        if effect.layers.is_some_and(|layers| !layers.mesh) {
            self.note_what_needs_a_proxy(&effect);
        }
        effect
    }

    /// What isolation allows, no policy for workloads takes away.
    fn note_isolation(&mut self, targets: &Targets, effect: &Effect) {
        let allows = effect.grants.iter().flatten().any(|grant| !grant.is_nothing());
        if self.workspace.settings.isolation().is_some() && matches!(targets, Targets::Workloads(_)) && allows {
            let text = "spec.applyToWorkloads: the workspace is isolated, and what isolation allows stays allowed: select \
                        the Services with spec.applyToDestinations";
            self.say(Severity::Warning, Code::Isolated, text);
        }
    }

    fn note_what_needs_a_proxy(&mut self, effect: &Effect) {
        let is_token =
            |client: &Client| !(client.request_principals.is_empty() && client.not_request_principals.is_empty());
        let needs_proxy = |grant: &Grant| {
            grant.concerns_requests()
                || grant.dry_run
                || !grant.remote_ip_blocks.is_empty()
                || grant.clients.iter().flatten().any(is_token)
                || (grant.clients.is_some() && !grant.ip_blocks.is_empty())
        };
        if effect.grants.iter().flatten().any(needs_proxy) || effect.tls.is_some() {
            let text = "spec.config.enforcementLayers: the container network alone enforces clients and ports; TLS modes, \
                        paths, methods, headers, tokens, remote addresses and dry runs need the mesh and are not \
                        enforced";
            self.say(Severity::Warning, Code::NotTranslated, text);
        }
    }

    fn grant(&mut self, path: &str, authz: &Authorization) -> Grant {
        let mut grant = Grant { dry_run: authz.dry_run, ..Grant::default() };
        if !authz.allowed_clients.is_empty() {
            let clients = authz.allowed_clients.iter().enumerate();
            let clients =
                clients.filter_map(|(index, client)| self.client(&format!("{path}.allowedClients[{index}]"), client));
            grant.clients = Some(clients.collect());
        }
        let lists = [
            (&authz.allowed_paths, "allowedPaths", &mut grant.paths, path_problem as fn(&str) -> Option<String>),
            (&authz.allowed_methods, "allowedMethods", &mut grant.methods, text_problem),
            (&authz.allowed_ip_blocks, "allowedIpBlocks", &mut grant.ip_blocks, range_problem),
            (&authz.allowed_remote_ip_blocks, "allowedRemoteIpBlocks", &mut grant.remote_ip_blocks, range_problem),
        ];
        let mut impossible = false;
        for (written, field, good, problem) in lists {
            for (index, text) in written.iter().enumerate() {
                match problem(text) {
                    None => good.push(text.clone()),
                    Some(problem) => {
                        let text = format!("{path}.{field}[{index}]: {problem}: it is left out");
                        self.say(Severity::Invalid, Code::BadValue, text);
                    }
                }
            }
            // What is left must not allow more than what was written.
            impossible |= good.is_empty() && !written.is_empty();
        }
        let headers = authz.r#match.as_ref().and_then(|wanted| wanted.request.as_ref()).map(|request| &request.headers);
        for (name, header) in headers.into_iter().flatten() {
            if name.is_empty() || (header.values.is_empty() && header.not_values.is_empty()) {
                let text = format!(
                    "{path}.match.request.headers[{name}]: expected a name, and values or notValues: the entry allows \
                     nothing"
                );
                self.say(Severity::Invalid, Code::Missing, text);
                impossible = true;
                continue;
            }
            grant.headers.push((name.clone(), header.values.clone(), header.not_values.clone()));
        }
        grant.is_impossible = impossible;
        if impossible {
            let text = format!("{path}: a condition has no value that can be met: the entry allows nothing");
            self.say(Severity::Invalid, Code::BadValue, text);
        }
        grant
    }

    /// The callers that a selector picks, if it picks any.
    fn client(&mut self, path: &str, selector: &IdentitySelector) -> Option<Client> {
        let mut client = Client::default();
        if let Some(tokens) = &selector.request_identity_matcher {
            client.request_principals.clone_from(&tokens.request_principals);
            client.not_request_principals.clone_from(&tokens.not_request_principals);
            if client.request_principals.is_empty() && client.not_request_principals.is_empty() {
                // Any token will do, but there must be one.
                client.request_principals.push("*".to_owned());
            }
        }
        if selector.external_workload_selector.is_some() {
            let text = format!("{path}.externalWorkloadSelector is not translated yet: the entry allows nobody");
            self.say(Severity::Warning, Code::NotTranslated, text);
            return None;
        }
        if let Some(accounts) = &selector.service_account_selector {
            let principals = self.model.selected_principals(self.workspace, accounts);
            if principals.identities.is_empty() {
                let text = format!(
                    "{path}.serviceAccountSelector: expected service accounts in clusters with a mesh, but none is \
                     selected: the entry allows nobody. Name, namespace and cluster together allow an account before \
                     it exists"
                );
                self.say(Severity::Warning, Code::NoClient, text);
                return None;
            }
            client.who = Some(Who::These(Shared::new(principals)));
        } else if selector.request_identity_matcher.is_none() {
            client.who = Some(Who::Anybody);
        }
        Some(client)
    }
}

fn text_problem(text: &str) -> Option<String> {
    text.is_empty().then(|| "expected a text, found none".to_owned())
}

/// Istio reads braces in paths as templates, which the API does not have.
fn path_problem(path: &str) -> Option<String> {
    let has_braces = path.contains(['{', '}']);
    text_problem(path).or_else(|| has_braces.then(|| format!("expected a path without braces, found {path}")))
}

fn range_problem(range: &str) -> Option<String> {
    let (address, bits) = range.split_once('/').unwrap_or((range, "0"));
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => 0,
    };
    let is_good = most > 0 && bits.parse::<u8>().is_ok_and(|bits| bits <= most);
    (!is_good).then(|| format!("expected an IP address or a range such as 10.0.0.0/8, found {range:?}"))
}

/// A name of Istio's objects made from a policy and a port of a Service.
pub(super) fn port_name(service: &Name, port: u32, policy: &Policy<AccessPolicySpec>, workspace: &Name) -> String {
    let key = &policy.source.key;
    format!("accesspolicy-{service}-{port}-{}-{}-{}-{workspace}", key.name, key.namespace, policy.source.cluster)
}
