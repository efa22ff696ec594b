use std::fmt;

use serde::{Serialize, Serializer};

/// What was found, in words, and its code.
pub(crate) type Finding = (Code, String);

/// Declares the codes with what each means; the number is part of what users search for and never changes its meaning.
macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal, )+) => {
        /// What a message is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $( $(#[doc = $doc])+ $name, )+
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[ $( Self::$name ),+ ];

            /// The code as users see it, such as `MR0501`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$name => $code, )+
                }
            }

            /// What the code means, in a sentence or two.
            pub fn meaning(self) -> &'static str {
                match self {
                    $( Self::$name => concat!($($doc),+).trim_ascii(), )+
                }
            }
        }
    };
}

codes! {
    /// The document is not an object of the kind that it says to be.
    WrongKind = "MR0100",
    /// A field has another type or form than its kind gives it; the resource has no effect until that is put right.
    BadType = "MR0101",
    /// The kind has no such field; it is ignored.
    UnknownField = "MR0102",
    /// A field is one of named values, and this is none of them.
    UnknownValue = "MR0103",
    /// Several fields are set of which only one may be.
    OneOf = "MR0104",
    /// A bound or a demand of the kind's schema is broken.
    BrokenRule = "MR0105",
    /// The status cannot be read; it is ignored.
    BadStatus = "MR0106",
    /// The kind, or this part of it, is accepted and stored but not translated by this version.
    NotTranslated = "MR0502",
    /// The resource lies where nothing reads it: in a namespace of no workspace, where configuration is disabled, or in
    /// a cluster other than the management cluster.
    OutOfPlace = "MR0503",
    /// A required field is missing or empty.
    Missing = "MR0505",
    /// A field has a value that is not allowed.
    BadValue = "MR0506",
    /// A namespace is selected by two workspaces; the older one keeps it.
    NamespaceTaken = "MR0510",
    /// A workspace has more than one WorkspaceSettings; the oldest is in force.
    SettingsTaken = "MR0511",
    /// Part of the settings has no effect where it is written.
    SettingsIgnored = "MR0512",
    /// A workspace selects no namespace that exists.
    EmptyWorkspace = "MR0513",
    /// A gateway that settings select lacks the port that cross-cluster traffic enters by.
    GatewayPortMissing = "MR0514",
    /// A virtual gateway selects no gateway.
    NoGateway = "MR0520",
    /// A listener's port does not exist at a selected gateway.
    NoListenerPort = "MR0521",
    /// Two listeners of a virtual gateway want the same port and host.
    ListenerTaken = "MR0522",
    /// A reference names something that does not exist or is not shared with the workspace.
    NotFound = "MR0530",
    /// A virtual gateway does not admit the table or some of its hosts.
    NotAdmitted = "MR0531",
    /// The weights of a route's destinations do not add up.
    Weights = "MR0533",
    /// A Service of another cluster is not federated, so that no host name leads to it.
    NotFederated = "MR0534",
    /// Routes of a table share a name.
    DuplicateRoute = "MR0535",
    /// No workload is selected.
    NoWorkload = "MR0536",
    /// No service is selected behind a virtual destination.
    NoBacking = "MR0540",
    /// Several services of one cluster are selected behind a virtual destination; the oldest is taken.
    BackingTaken = "MR0541",
    /// A service behind a virtual destination lacks a port.
    BackingPort = "MR0542",
    /// A host name is taken by an older resource.
    HostTaken = "MR0543",
    /// A cluster cannot be reached from other clusters: it has no mesh or no east-west gateway with an address.
    Unreachable = "MR0544",
    /// The identities of a service's workloads are not known, so that clients do not check them.
    NoIdentity = "MR0545",
    /// Traffic to an external service has to leave through gateways, and none of them can be used.
    EgressClosed = "MR0546",
    /// Settings federate Services, and a selector selects none that its workspace owns.
    NothingFederated = "MR0547",
    /// No endpoint is selected for an external service.
    NoEndpoint = "MR0550",
    /// A policy selects a target for which an older policy of its kind holds; it holds for its other targets.
    PolicyConflict = "MR0560",
    /// A policy selects nothing that its workspace owns.
    PolicyUnused = "MR0561",
    /// A policy selects a target on which its kind has no effect; it holds for its other targets.
    PolicyWithoutEffect = "MR0562",
    /// No policy refers to a resource that does nothing without one.
    Unreferenced = "MR0563",
    /// Conditions of a delegated route and of what delegates to it cannot hold together.
    Contradiction = "MR0570",
    /// A route delegates to tables of which none is found.
    NoDelegate = "MR0571",
    /// Tables delegate to each other in a circle.
    DelegationCycle = "MR0572",
    /// A tree of tables has more routes than proxies can hold.
    TooManyRoutes = "MR0573",
    /// No root table delegates to a table without hosts.
    NotDelegated = "MR0574",
    /// The same proxies serve a host for several root tables.
    HostShared = "MR0575",
    /// Something is wrong with a tree of tables that is to be kept as it last was right.
    Frozen = "MR0576",
    /// An entry of a policy allows callers that are not known, and so allows nobody.
    NoClient = "MR0580",
    /// Policies say different things about connections to the same pods, and Istio applies one of them only.
    TlsOverlap = "MR0581",
    /// A port of a Service leads to a port of its pods by name, and no known workload has that name.
    UnknownTargetPort = "MR0582",
    /// Part of an access policy has no effect, because its workspace is isolated.
    Isolated = "MR0583",
    /// The pods of a workload that is to be trimmed cannot be told from those of one that is not.
    TrimOverlap = "MR0584",
    /// No external auth server can be reached where a policy needs one; its routes are closed.
    NoAuthServer = "MR0585",
    /// Services behind one external auth server differ in name or namespace; only some know what a policy asks.
    AuthServersDiffer = "MR0586",
    /// A policy about requests selects a port that does not speak HTTP, or does not say so.
    NotHttp = "MR0587",
    /// There is no rate limit server that proxies reach.
    NoRateLimitServer = "MR0588",
    /// A policy does not have another route chosen, because external authorization that the route demands came before.
    RouteKept = "MR0589",
    /// A policy selects a kind of destination for which it cannot hold.
    WrongTarget = "MR0590",
    /// Failover is set up for a destination whose failing endpoints nobody notices.
    NoOutlierDetection = "MR0591",
    /// TLS other than that of the mesh is asked for where traffic goes to other clusters.
    TlsAcrossClusters = "MR0592",
    /// A rate limit policy limits nothing: what is counted, or how requests are described, is missing.
    NothingLimited = "MR0595",
    /// Services behind one rate limit server differ in name or namespace, so that only the first counts.
    RateLimitServersDiffer = "MR0596",
}

impl Code {
    /// Takes the code off the beginning of a message that carries one.
    pub(crate) fn split(message: &impl ToString) -> Finding {
        let message = message.to_string();
        let (code, text) = message.split_once(": ").unwrap_or(("", &message));
        let known = Self::ALL.iter().find(|known| known.as_str() == code);
        known.map_or_else(|| (Self::BrokenRule, message.clone()), |known| (*known, text.to_owned()))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ascending_and_in_range() {
        let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert!(codes.iter().all(|code| code.len() == 6 && (code.starts_with("MR05") || code.starts_with("MR010"))));
        assert!(Code::ALL.iter().all(|code| code.meaning().ends_with('.')));
        let split = |message: &str| Code::split(&message);
        assert_eq!(split("MR0102: spec.x: no such field"), (Code::UnknownField, "spec.x: no such field".to_owned()));
        assert_eq!(split("x: y"), (Code::BrokenRule, "x: y".to_owned()));
    }
}
