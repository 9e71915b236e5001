//! Which crate speaks ZeroMQ at either end, and tests that run for each.

use telos_bridge::{BridgeConfig, ClientConfig, Wire};

/// What the two ends of a test use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wires {
    /// The host's.
    pub(crate) host: Wire,
    /// The clients'.
    pub(crate) client: Wire,
    /// The last part of the module that the test is in.
    pub(crate) module: &'static str,
}

impl Wires {
    pub(crate) const ZEROMQ: Self = Self { host: Wire::ZeroMq, client: Wire::ZeroMq, module: "zeromq" };
    #[cfg(feature = "omq")]
    pub(crate) const OMQ: Self = Self { host: Wire::Omq, client: Wire::Omq, module: "omq" };
    #[cfg(feature = "omq")]
    pub(crate) const ZEROMQ_TO_OMQ: Self =
        Self { host: Wire::Omq, client: Wire::ZeroMq, module: "zeromq_to_omq" };
    #[cfg(feature = "omq")]
    pub(crate) const OMQ_TO_ZEROMQ: Self =
        Self { host: Wire::ZeroMq, client: Wire::Omq, module: "omq_to_zeromq" };

    /// A host's settings, on its wire.
    pub(crate) fn serving(self, config: BridgeConfig) -> BridgeConfig {
        BridgeConfig { wire: self.host, ..config }
    }

    /// A client's settings, on its wire.
    pub(crate) fn calling(self, config: ClientConfig) -> ClientConfig {
        ClientConfig { wire: self.client, ..config }
    }
}

/// One module of tests: each function with these wires.
macro_rules! tests_with {
    ($module:ident, $wires:ident, $($flavor:literal: $($test:ident),+;)+) => {
        mod $module {
            $($(
                #[tokio::test(flavor = $flavor)]
                async fn $test() {
                    super::$test(crate::wires::Wires::$wires).await;
                }
            )+)+
        }
    };
}

/// Makes tests of functions: one for each wire that is compiled in, at both ends.
macro_rules! on_every_wire {
    ($($tests:tt)+) => {
        crate::wires::tests_with!(zeromq, ZEROMQ, $($tests)+);
        #[cfg(feature = "omq")]
        crate::wires::tests_with!(omq, OMQ, $($tests)+);
    };
}

/// The same, and one for each way of mixing them.
macro_rules! on_every_pair {
    ($($tests:tt)+) => {
        crate::wires::on_every_wire!($($tests)+);
        #[cfg(feature = "omq")]
        crate::wires::tests_with!(zeromq_to_omq, ZEROMQ_TO_OMQ, $($tests)+);
        #[cfg(feature = "omq")]
        crate::wires::tests_with!(omq_to_zeromq, OMQ_TO_ZEROMQ, $($tests)+);
    };
}

pub(crate) use {on_every_pair, on_every_wire, tests_with};

/// Whoever adds a wire adds its row above.
#[test]
fn every_wire_that_is_compiled_in_is_tested() {
    let tested = [
        Wires::ZEROMQ.host,
        #[cfg(feature = "omq")]
        Wires::OMQ.host,
    ];
    assert_eq!(Wire::all(), tested);
}
