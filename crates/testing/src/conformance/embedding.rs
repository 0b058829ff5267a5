//! Conformance tests of the embedding.

use super::suite::{CaseLabel, OutputBuffer, Suite, added_part, inner_product, into_array};
use s4_backend::{Backend, EmbeddingBackward, EmbeddingForward, SeqShape};

impl<B: Backend> Suite<'_, B> {
    pub(super) fn embedding(&mut self) {
        // Backends may take large vocabularies another way, and long sequences in parts.
        let shapes = [
            (1, 1, 1, 1),
            (2, 3, 17, 5),
            (1, 2, 9, 300),
            (3, 64, 1, 7),
            (2, 33, 300, 1000),
            (2, 33, 130, 100),
            (3, 40, 1047, 256),
            (1, 5, 300, 257),
        ];
        for (batch, heads, len, vocabulary) in self.cases(&shapes, &shapes[..3]) {
            self.embedding_case(SeqShape { batch, heads, len }, vocabulary);
        }
    }

    fn embedding_case(&mut self, shape: SeqShape, vocabulary: usize) {
        let (backend, s) = (self.backend, &shape);
        let case = format!("{s:?} of {vocabulary}");
        let table = self.normal(vocabulary * s.heads);
        let tokens: Vec<i32> = (0..s.batch * s.len).map(|_| self.rng.below(vocabulary) as i32).collect();
        let dy = self.normal(s.elements());
        let embedded = |table: &[f64]| {
            let mut y = vec![0.0; s.elements()];
            for (i, y) in y.iter_mut().enumerate() {
                let (b, h, t) = (i / s.len / s.heads, i / s.len % s.heads, i % s.len);
                *y = table[tokens[b * s.len + t] as usize * s.heads + h];
            }
            y
        };
        let label = CaseLabel { operation: "embedding_forward", case: &case };
        self.check_forward(label, &[&table], &[&tokens], &[("y", &embedded(&table))], &mut |a, _| {
            let ([y], [table]) = (into_array(a.outs), into_array(a.ins));
            backend.embedding_forward(EmbeddingForward { y, table, tokens: &a.ints[0], vocabulary, shape })
        });
        let label = CaseLabel { operation: "embedding_backward", case: &case };
        let d0 = self.small_initial_gradient(table.len());
        let got =
            self.outputs_of(label, &[&dy], &[&tokens], &[OutputBuffer::AddedTo(&d0)], &mut |a, workspace| {
                let ([dtable], [dy]) = (into_array(a.outs), into_array(a.ins));
                let tokens = &a.ints[0];
                backend.embedding_backward(
                    EmbeddingBackward { dtable, dy, tokens, vocabulary, shape },
                    workspace,
                )
            });
        if let Some(got) = got {
            let d = added_part(&got[0], &d0);
            self.check_by_differences(label, "dtable", &d, &table, &mut |table| {
                inner_product(&embedded(table), &dy)
            });
        }
    }
}
