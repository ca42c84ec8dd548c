//! What annotations ask of an object, as its status says that it has been seen to.

/// What was asked for by annotations and has been seen to.
#[derive(Debug)]
pub struct Handled<'a> {
    /// `reconcile.fluxcd.io/requestedAt`.
    pub reconcile: &'a mut Option<String>,
    /// `reconcile.fluxcd.io/forceAt`.
    pub force: &'a mut Option<String>,
    /// `prowler-operator.dev/scan-now`.
    pub scan_now: &'a mut Option<String>,
}

/// The status of a kind that can be asked for scans.
pub trait CanBeAsked {
    /// What has been seen to.
    fn handled(&mut self) -> Handled<'_>;
}

macro_rules! asked {
    ($status:ty) => {
        impl $crate::api::asked::CanBeAsked for $status {
            fn handled(&mut self) -> $crate::api::asked::Handled<'_> {
                $crate::api::asked::Handled {
                    reconcile: &mut self.last_handled_reconcile_at,
                    force: &mut self.last_handled_force_at,
                    scan_now: &mut self.last_handled_scan_now,
                }
            }
        }
    };
}
pub(crate) use asked;
