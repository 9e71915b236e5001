//! Which components' state is on its way to another generation: one course of each component at a time.
//!
//! Copies do not say whose code made them, so two courses to the same generation would take each other's for their own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use telos_store::ComponentId;
use tokio::sync::Notify;

/// The components whose state is under way.
#[derive(Default)]
pub(crate) struct Courses(Arc<Underway>);

#[derive(Default)]
struct Underway {
    components: Mutex<BTreeSet<ComponentId>>,
    /// A course has ended.
    ended: Notify,
}

/// The right to carry one component's state, until this is dropped.
pub(crate) struct OnCourse {
    underway: Arc<Underway>,
    component: ComponentId,
}

impl Courses {
    /// None while a course of this component is under way.
    pub(crate) fn begin(&self, component: &ComponentId) -> Option<OnCourse> {
        let is_free = self.0.components.lock().insert(component.clone());
        is_free.then(|| OnCourse { underway: Arc::clone(&self.0), component: component.clone() })
    }

    /// Waits for the one that is under way; none when that takes until this moment.
    ///
    /// Cancel safety: dropping the future begins nothing.
    pub(crate) async fn begin_by(&self, component: &ComponentId, at: Instant) -> Option<OnCourse> {
        let beginning = async {
            loop {
                let ended = self.0.ended.notified();
                tokio::pin!(ended);
                ended.as_mut().enable();
                if let Some(course) = self.begin(component) {
                    return course;
                }
                ended.await;
            }
        };
        tokio::time::timeout_at(at.into(), beginning).await.ok()
    }
}

impl Drop for OnCourse {
    fn drop(&mut self) {
        self.underway.components.lock().remove(&self.component);
        self.underway.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_component_is_on_one_course_and_the_next_waits_for_its_end() {
        let (courses, component) = (Courses::default(), ComponentId::new("a").unwrap());
        let first = courses.begin(&component).unwrap();
        assert!(courses.begin(&component).is_none());
        assert!(courses.begin(&ComponentId::new("b").unwrap()).is_some());
        assert!(courses.begin_by(&component, Instant::now()).await.is_none());
        let by = Instant::now() + Duration::from_secs(60);
        let (second, ()) = tokio::join!(courses.begin_by(&component, by), async { drop(first) });
        assert!(second.is_some() && courses.begin(&component).is_none());
        drop(second);
        assert!(courses.begin(&component).is_some());
    }
}
