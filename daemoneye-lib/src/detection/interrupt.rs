//! Places where a plan lets others have their turn.
//!
//! The engine yields where rows are read. A join makes many rows of few, so that it, and what stands above it, could work for
//! hours without reading one; and only what yields can be cancelled, or ended by a time limit. So what comes out of a join
//! yields, and a join that looks at pairs by a condition gets one side of them in small portions, and yields between two.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode as _, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::{Stream, StreamExt as _};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Rows of a portion: with a million rows on the other side some tens of millions of pairs, less than a second's work.
const PORTION: usize = 64;

/// The plan with these places.
pub(super) fn interruptible(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|plan| {
        let mut children: Vec<_> = plan.children().into_iter().cloned().collect();
        if children.len() != 2 {
            return Ok(Transformed::no(plan));
        }
        let by_condition = plan.is::<NestedLoopJoinExec>()
            || plan.downcast_ref::<HashJoinExec>().is_some_and(|join| join.filter().is_some());
        let plan = match children.pop() {
            Some(probed) if by_condition => {
                children.push(Arc::new(Portions::of(probed)));
                plan.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?
            }
            _ => plan,
        };
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>))
    });
    wrapped.map(|wrapped| wrapped.data)
}

/// What its input gives, in small portions with a pause behind each.
#[derive(Debug)]
struct Portions {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Portions {
    fn of(input: Arc<dyn ExecutionPlan>) -> Self {
        Self { properties: Arc::clone(input.properties()), input }
    }
}

impl DisplayAs for Portions {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Portions")
    }
}

impl ExecutionPlan for Portions {
    fn name(&self) -> &'static str {
        "Portions"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::of(input))),
            _ => Err(DataFusionError::Internal("portions are of one input".to_owned())),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(Portioned { schema: self.input.schema(), input, left: None, pauses: false }))
    }
}

struct Portioned {
    schema: SchemaRef,
    input: SendableRecordBatchStream,
    /// What has come and was not given yet.
    left: Option<RecordBatch>,
    /// Whether something was given since the last pause.
    pauses: bool,
}

impl Stream for Portioned {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pauses) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let batch = match self.left.take() {
            Some(left) => left,
            None => match self.input.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(batch))) => batch,
                other => return other,
            },
        };
        let rows = batch.num_rows().min(PORTION);
        if rows < batch.num_rows() {
            self.left = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        self.pauses = true;
        Poll::Ready(Some(Ok(batch.slice(0, rows))))
    }
}

impl RecordBatchStream for Portioned {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
