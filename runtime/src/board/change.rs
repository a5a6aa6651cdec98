//! The order in which a board is changed (jetson.md 4.2).
//!
//! 1. cores that are wanted come online, because an offline cluster has no clock files;
//! 2. per CPU cluster: the bound that moves away from the other one first ([`super::range`]);
//! 3. the GPU: power control on, its range, power control back ([`super::gpu`]);
//! 4. the memory clock: cap, lock; or release, cap ([`super::emc`]);
//! 5. cores that are not wanted go offline, the last one first; a cluster that goes offline as a
//!    whole got its original bounds back in step 2, while it still had the files.
//!
//! Governors, cpuidle, power-gating masks, over-current limits and fans are never written.

use super::controls::Controls;
use super::node::{Cause, Node, NodeError};
use super::settings::Settings;
use super::topology::{Topology, cpus_of};
use super::{cpu, emc, gpu};

/// What to do when one file fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnError {
    /// Stop: the caller rolls back.
    Stop,
    /// Go on with the other files: on the way back to known clocks every file that can be set counts.
    KeepGoing,
}

/// Which clocks that read back differently from what was written are failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Differences {
    /// All of them.
    Refuse,
    /// A maximum that reads lower is none: the kernel took it, and shows it lowered while heat limits
    /// the clock. On the way back to known clocks that is as good as it gets.
    AcceptLimited,
    /// None of them.
    Accept,
}

impl Differences {
    fn accept(self, error: &NodeError) -> bool {
        let Cause::Differs { expected, got } = error.cause else {
            return false;
        };
        match self {
            Self::Refuse => false,
            Self::AcceptLimited => {
                matches!(error.node, Node::CpuMax(_) | Node::GpuMax) && got < expected
            }
            Self::Accept => true,
        }
    }
}

/// One change under way.
pub(super) struct Change<'a, C> {
    controls: &'a mut C,
    topology: &'a Topology,
    on_error: OnError,
    differences: Differences,
    first_error: Option<NodeError>,
}

impl<'a, C: Controls> Change<'a, C> {
    pub(super) fn new(
        controls: &'a mut C,
        topology: &'a Topology,
        on_error: OnError,
        differences: Differences,
    ) -> Self {
        Self {
            controls,
            topology,
            on_error,
            differences,
            first_error: None,
        }
    }

    /// Step 1.
    pub(super) fn bring_online(&mut self, to: &Settings) -> Result<(), NodeError> {
        for cpu in cpus_of(to.online) {
            let outcome = cpu::set_online(self.controls, cpu, true);
            self.note(outcome)?;
        }
        Ok(())
    }

    /// Steps 2 to 5.
    pub(super) fn set_clocks(&mut self, to: &Settings) -> Result<(), NodeError> {
        for (cluster, setting) in self.topology.clusters.iter().zip(&to.clusters) {
            let Some(range) = setting.range_khz else {
                continue;
            };
            let outcome = match cluster.cpus & to.online {
                // A cluster that is to be offline can take its bounds only while it is online.
                0 => match cpu::read_online(self.controls, cluster.cpus) {
                    Ok(0) => Ok(()),
                    Ok(_) => cpu::range_of(cluster).set(self.controls, range),
                    Err(error) => Err(error),
                },
                _ => cpu::range_of(cluster).set(self.controls, range),
            };
            self.note(outcome)?;
        }
        let outcome = gpu::set(self.controls, to.gpu_hz, to.gpu_power);
        self.note(outcome)?;
        let outcome = emc::set(self.controls, &to.emc);
        self.note(outcome)?;
        for cpu in cpus_of(self.topology.cpus & !to.online).rev() {
            let outcome = cpu::set_online(self.controls, cpu, false);
            self.note(outcome)?;
        }
        Ok(())
    }

    /// The first failure, if there was one.
    pub(super) fn finish(self) -> Result<(), NodeError> {
        self.first_error.map_or(Ok(()), Err)
    }

    fn note(&mut self, outcome: Result<(), NodeError>) -> Result<(), NodeError> {
        match outcome {
            Err(error) if self.differences.accept(&error) => Ok(()),
            Err(error) => {
                self.first_error.get_or_insert(error);
                match self.on_error {
                    OnError::Stop => Err(error),
                    OnError::KeepGoing => Ok(()),
                }
            }
            Ok(()) => Ok(()),
        }
    }
}
