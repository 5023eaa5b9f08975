"""What a small model knows about people, and what it answers where it knows nothing, measured on invented people.

python -m benchmarks.knowledge --output_file benchmarks/knowledge/results.json
python -m benchmarks.knowledge.page
"""
