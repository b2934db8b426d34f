"""What a linear model on words does on the very split of a run: python benchmarks/tfidf.py RUN

TF-IDF of words and pairs of words and logistic regression, its C chosen on the validation split: the baseline that
every network for text has to beat. Needs scikit-learn (the extra `test`).
"""

import sys

import pyarrow.parquet
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline


def main(run: str) -> None:
    rows = pyarrow.parquet.read_table(f"{run}/splits.parquet").to_pydict()
    parts = {
        s: [
            (t[0], label)
            for t, label, split in zip(rows["texts"], rows["label"], rows["split"], strict=True)
            if split == s
        ]
        for s in ("train", "val", "test")
    }
    (x, y), (vx, vy), (tx, ty) = (zip(*parts[s], strict=True) for s in ("train", "val", "test"))

    def fitted(c):
        return make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=c, max_iter=2000)
        ).fit(x, y)

    model = max((fitted(c) for c in (1, 3, 10, 30, 100)), key=lambda m: f1_score(vy, m.predict(vx), average="macro"))
    said = model.predict(tx)
    print(
        f"accuracy {accuracy_score(ty, said):.4f}, macro F1 {f1_score(ty, said, average='macro'):.4f} on {len(ty)} texts"
    )


if __name__ == "__main__":
    main(sys.argv[1])
