"""The presets of keras-hub 0.32's text families: name, handle, weights, training, licence.

Nothing here asks keras-hub; a test compares names and handles with the installed version. Parameters are
keras-hub's, less the dense layer behind the first token (BERT, ALBERT, ELECTRA, FNet) or behind the mean
(EmbeddingGemma). Where its number is rounded (OPT 2.7B and 6.7B, Qwen2.5 Coder 14B) or does not follow from the
architecture (the 3-layer MiniLM, Qwen2.5 1.5B and 7B), they were computed. Those of decoders count the output
embedding where it is not the input's. Gemma 3's presets that take images are left out.

The key of the weights is what they were trained for last, 'pretrained' being general text. Licences are those of
the weights' authors; 'see the model page': not known for certain. Weights in int8 are to be used, not trained.
"""

from tlkeras.backbones.keras_hub_presets import Preset

_APACHE, _MIT, _SEE = "Apache-2.0", "MIT", "see the model page"
_GEMMA, _LLAMA = "Gemma terms of use", "Llama community licence"
_OPT, _RAIL = "OPT licence (non-commercial)", "BigScience RAIL"
_QWEN, _RESEARCH = "Qwen licence", "Qwen research licence (non-commercial)"
_TONGYI = "Tongyi Qianwen licence"
_HEALTH = "Health AI Developer Foundations terms"

# Family, where on Kaggle, training, licence, and rows of: name, version on Kaggle, parameters, what it is.
_TABLE = (
    ("bert", "keras/bert/keras", "pretrained", _APACHE, (
        ("bert_tiny_en_uncased", 3, 4_369_408, "BERT, 2 layers of 128, lower-case English"),
        ("bert_small_en_uncased", 3, 28_500_992, "BERT, 4 layers of 512, lower-case English"),
        ("bert_medium_en_uncased", 3, 41_110_528, "BERT, 8 layers of 512, lower-case English"),
        ("bert_base_en_uncased", 3, 108_891_648, "BERT, 12 layers of 768, lower-case English"),
        ("bert_base_en", 3, 107_719_680, "BERT, 12 layers of 768, English"),
        ("bert_base_zh", 3, 101_677_056, "BERT, 12 layers of 768, Chinese"),
        ("bert_base_multi", 3, 177_262_848, "BERT, 12 layers of 768, 104 languages"),
        ("bert_large_en_uncased", 3, 334_092_288, "BERT, 24 layers of 1024, lower-case English"),
        ("bert_large_en", 3, 332_529_664, "BERT, 24 layers of 1024, English"))),
    ("bert", "keras/bert/keras", "sst2", _APACHE, (
        ("bert_tiny_en_uncased_sst2", 5, 4_369_408, "BERT, 2 layers of 128, sentiment of film reviews"),)),
    ("bert", "keras/sentence-transformers/keras", "embedding", _APACHE, (
        ("all_minilm_l6_v2_en", 1, 22_565_376, "MiniLM, 6 layers of 384, vectors of English text"),
        ("all_minilm_l6_v1_en", 1, 22_565_376, "MiniLM, 6 layers of 384, vectors of English text, first version"),
        ("all_minilm_l12_v2_en", 1, 33_212_160, "MiniLM, 12 layers of 384, vectors of English text"),
        ("paraphrase_minilm_l3_v2_en", 1, 17_241_984, "MiniLM, 3 layers of 384, vectors that find paraphrases"),
        ("paraphrase_minilm_l6_v2_en", 1, 22_565_376, "MiniLM, 6 layers of 384, vectors that find paraphrases"),
        ("paraphrase_minilm_l12_v2_en", 1, 33_212_160, "MiniLM, 12 layers of 384, vectors that find paraphrases"))),
    ("bert", "keras/sentence-transformers/keras", "embedding", _SEE, (
        ("multi_qa_minilm_l6_cos_v1_en", 1, 22_565_376, "MiniLM, 6 layers of 384, questions and answers, cosine"),
        ("multi_qa_minilm_l6_dot_v1_en", 1, 22_565_376, "MiniLM, 6 layers of 384, questions and answers, dot product"),
        ("msmarco_minilm_l6_cos_v5_en", 1, 22_565_376, "MiniLM, 6 layers of 384, queries and passages, cosine"),
        ("msmarco_minilm_l12_cos_v5_en", 1, 33_212_160, "MiniLM, 12 layers of 384, queries and passages, cosine"))),
    ("bert", "keras/bge/keras", "embedding", _MIT, (
        ("bge_small_en", 1, 33_212_160, "BGE, 12 layers of 384, vectors of English text"),
        ("bge_base_en", 1, 108_891_648, "BGE, 12 layers of 768, vectors of English text"),
        ("bge_large_en", 1, 334_092_288, "BGE, 24 layers of 1024, vectors of English text"),
        ("bge_small_v1.5_en", 1, 33_212_160, "BGE v1.5, 12 layers of 384, vectors of English text"),
        ("bge_base_v1.5_en", 1, 108_891_648, "BGE v1.5, 12 layers of 768, vectors of English text"),
        ("bge_large_v1.5_en", 1, 334_092_288, "BGE v1.5, 24 layers of 1024, vectors of English text"),
        ("bge_base_zh", 1, 101_677_056, "BGE, 12 layers of 768, vectors of Chinese text"),
        ("bge_large_zh", 1, 324_472_832, "BGE, 24 layers of 1024, vectors of Chinese text"),
        ("bge_small_v1.5_zh", 1, 23_691_264, "BGE v1.5, 4 layers of 512, vectors of Chinese text"),
        ("bge_base_v1.5_zh", 1, 101_677_056, "BGE v1.5, 12 layers of 768, vectors of Chinese text"),
        ("bge_large_v1.5_zh", 1, 324_472_832, "BGE v1.5, 24 layers of 1024, vectors of Chinese text"),
        ("bge_llm_embedder", 1, 108_891_648, "BGE, 12 layers of 768, vectors for retrieval beside a language model"))),
    ("bert", "keras/multilingual-e5/keras", "embedding", _MIT, (
        ("multilingual_e5_small", 1, 117_505_920, "E5, 12 layers of 384, vectors in about 100 languages"),)),
    ("bert", "keras/mxbai-embed/keras", "embedding", _APACHE, (
        ("mxbai_embed_large_v1_en", 1, 334_092_288, "mxbai, 24 layers of 1024, vectors of English text"),
        ("mxbai_embed_2d_large_v1_en", 1, 334_092_288, "mxbai, 24 layers of 1024, may be cut short"),
        ("mxbai_embed_xsmall_v1_en", 1, 23_941_632, "mxbai, 6 layers of 384, vectors of up to 4096 tokens"))),
    ("roberta", "keras/roberta/keras", "pretrained", _MIT, (
        ("roberta_base_en", 3, 124_052_736, "RoBERTa, 12 layers of 768, English"),
        ("roberta_large_en", 3, 354_307_072, "RoBERTa, 24 layers of 1024, English"))),
    ("xlm_roberta", "keras/xlm_roberta/keras", "pretrained", _MIT, (
        ("xlm_roberta_base_multi", 3, 277_450_752, "XLM-RoBERTa, 12 layers of 768, 100 languages"),
        ("xlm_roberta_large_multi", 3, 558_837_760, "XLM-RoBERTa, 24 layers of 1024, 100 languages"))),
    ("xlm_roberta", "keras/bge/keras", "embedding", _MIT, (
        ("bge_m3", 1, 566_702_080, "BGE-M3, 24 layers of 1024, vectors in about 100 languages, up to 8192 tokens"),)),
    ("xlm_roberta", "keras/multilingual-e5/keras", "embedding", _MIT, (
        ("multilingual_e5_base", 1, 277_450_752, "E5, 12 layers of 768, vectors in about 100 languages"),
        ("multilingual_e5_large", 1, 558_837_760, "E5, 24 layers of 1024, vectors of text in about 100 languages"))),
    ("distil_bert", "keras/distil_bert/keras", "pretrained", _APACHE, (
        ("distil_bert_base_en_uncased", 3, 66_362_880, "DistilBERT, 6 layers of 768, lower-case English"),
        ("distil_bert_base_en", 3, 65_190_912, "DistilBERT, 6 layers of 768, English"),
        ("distil_bert_base_multi", 3, 134_734_080, "DistilBERT, 6 layers of 768, 104 languages"))),
    ("albert", "keras/albert/keras", "pretrained", _APACHE, (
        ("albert_base_en_uncased", 5, 11_092_992, "ALBERT, one layer of 768 called 12 times"),
        ("albert_large_en_uncased", 3, 16_634_368, "ALBERT, one layer of 1024 called 24 times"),
        ("albert_extra_large_en_uncased", 3, 54_528_512, "ALBERT, one layer of 2048 called 24 times"),
        ("albert_extra_extra_large_en_uncased", 3, 205_814_272, "ALBERT, one layer of 4096 called 12 times"))),
    ("deberta_v3", "keras/deberta_v3/keras", "pretrained", _MIT, (
        ("deberta_v3_extra_small_en", 3, 70_682_112, "DeBERTaV3, 12 layers of 384, English"),
        ("deberta_v3_small_en", 3, 141_304_320, "DeBERTaV3, 6 layers of 768, English"),
        ("deberta_v3_base_en", 3, 183_831_552, "DeBERTaV3, 12 layers of 768, English"),
        ("deberta_v3_large_en", 3, 434_012_160, "DeBERTaV3, 24 layers of 1024, English"),
        ("deberta_v3_base_multi", 3, 278_218_752, "mDeBERTaV3, 12 layers of 768, 100 languages"))),
    ("electra", "keras/electra/keras", "pretrained", _APACHE, (
        ("electra_small_discriminator_uncased_en", 2, 13_483_008, "ELECTRA discriminator, 12 layers of 256"),
        ("electra_small_generator_uncased_en", 2, 13_483_008, "ELECTRA generator, 12 layers of 256"),
        ("electra_base_discriminator_uncased_en", 2, 108_891_648, "ELECTRA discriminator, 12 layers of 768"),
        ("electra_base_generator_uncased_en", 2, 33_511_168, "ELECTRA generator, 12 layers of 256"),
        ("electra_large_discriminator_uncased_en", 2, 334_092_288, "ELECTRA discriminator, 24 layers of 1024"),
        ("electra_large_generator_uncased_en", 2, 50_999_552, "ELECTRA generator, 24 layers of 256"))),
    ("f_net", "keras/f_net/keras", "pretrained", _APACHE, (
        ("f_net_base_en", 3, 82_270_464, "FNet, 12 layers of 768, English"),
        ("f_net_large_en", 3, 235_895_808, "FNet, 24 layers of 1024, English"))),
    ("gpt2", "keras/gpt2/keras", "pretrained", _MIT, (
        ("gpt2_base_en", 3, 124_439_808, "GPT-2, 12 layers of 768, English"),
        ("gpt2_medium_en", 3, 354_823_168, "GPT-2, 24 layers of 1024, English"),
        ("gpt2_large_en", 3, 774_030_080, "GPT-2, 36 layers of 1280, English"),
        ("gpt2_extra_large_en", 3, 1_557_611_200, "GPT-2, 48 layers of 1600, English"))),
    ("gpt2", "keras/gpt2/keras", "cnn", _SEE, (
        ("gpt2_base_en_cnn_dailymail", 3, 124_439_808, "GPT-2, 12 layers of 768, tuned to summarise news"),)),
    ("opt", "keras/opt/keras", "pretrained", _OPT, (
        ("opt_125m_en", 3, 125_237_760, "OPT, 12 layers of 768, English"),
        ("opt_1.3b_en", 3, 1_315_753_984, "OPT, 24 layers of 2048, English"),
        ("opt_2.7b_en", 3, 2_651_591_680, "OPT, 32 layers of 2560, English"),
        ("opt_6.7b_en", 3, 6_658_465_792, "OPT, 32 layers of 4096, English"))),
    ("bloom", "keras/bloom/keras", "pretrained", _RAIL, (
        ("bloom_560m_multi", 4, 559_214_592, "Bloom, 24 layers of 1024, 45 languages and 12 of programming"),
        ("bloom_1.1b_multi", 2, 1_065_314_304, "Bloom, 24 layers of 1536, 45 languages and 12 of programming"),
        ("bloom_1.7b_multi", 2, 1_722_408_960, "Bloom, 24 layers of 2048, 45 languages and 12 of programming"),
        ("bloom_3b_multi", 2, 3_002_557_440, "Bloom, 30 layers of 2560, 45 languages and 12 of programming"))),
    ("bloom", "keras/bloom/keras", "instruct", _RAIL, (
        ("bloomz_560m_multi", 2, 559_214_592, "Bloom, 24 layers of 1024, tuned on tasks in many languages"),
        ("bloomz_1.1b_multi", 2, 1_065_314_304, "Bloom, 24 layers of 1536, tuned on tasks in many languages"),
        ("bloomz_1.7b_multi", 2, 1_722_408_960, "Bloom, 24 layers of 2048, tuned on tasks in many languages"),
        ("bloomz_3b_multi", 2, 3_002_557_440, "Bloom, 30 layers of 2560, tuned on tasks in many languages"))),
    ("falcon", "keras/falcon/keras", "pretrained", _APACHE, (
        ("falcon_refinedweb_1b_en", 2, 1_311_625_216, "Falcon, 24 layers of 2048, English web pages"),)),
    ("llama", "keras/llama2/keras", "pretrained", _LLAMA, (
        ("llama2_7b_en", 3, 6_738_415_616, "Llama 2 7B, 32 layers"),
        ("llama2_7b_en_int8", 2, 6_739_839_488, "Llama 2 7B, 32 layers, weights in int8"))),
    ("llama", "keras/llama2/keras", "instruct", _LLAMA, (
        ("llama2_instruct_7b_en", 3, 6_738_415_616, "Llama 2 7B, 32 layers, instruction-tuned"),
        ("llama2_instruct_7b_en_int8", 2, 6_739_839_488, "Llama 2 7B, 32 layers, instruction-tuned, weights in int8"))),
    ("llama", "keras/vicuna/keras", "instruct", _LLAMA, (
        ("vicuna_1.5_7b_en", 3, 6_738_415_616, "Vicuna 1.5 7B, 32 layers, Llama 2 tuned on conversations"),)),
    ("llama3", "keras/llama3/keras", "pretrained", _LLAMA, (
        ("llama3_8b_en", 5, 8_030_261_248, "Llama 3 8B, 32 layers"),
        ("llama3_8b_en_int8", 2, 8_031_894_016, "Llama 3 8B, 32 layers, weights in int8"),
        ("llama3.1_8b", 2, 8_030_261_248, "Llama 3.1 8B, 32 layers"),
        ("llama3.2_1b", 1, 1_498_482_688, "Llama 3.2 1B, 16 layers"),
        ("llama3.2_3b", 1, 3_606_752_256, "Llama 3.2 3B, 28 layers"))),
    ("llama3", "keras/llama3/keras", "instruct", _LLAMA, (
        ("llama3_instruct_8b_en", 5, 8_030_261_248, "Llama 3 8B, 32 layers, instruction-tuned"),
        ("llama3_instruct_8b_en_int8", 2, 8_031_894_016, "Llama 3 8B, 32 layers, instruction-tuned, weights in int8"),
        ("llama3.1_instruct_8b", 2, 8_030_261_248, "Llama 3.1 8B, 32 layers, instruction-tuned"),
        ("llama3.2_instruct_1b", 1, 1_498_482_688, "Llama 3.2 1B, 16 layers, instruction-tuned"),
        ("llama3.2_instruct_3b", 1, 3_606_752_256, "Llama 3.2 3B, 28 layers, instruction-tuned"))),
    ("llama3", "keras/llama3/keras", "safety", _LLAMA, (
        ("llama3.1_guard_8b", 2, 8_030_261_248, "Llama Guard 3 8B, 32 layers, for unsafe content"),
        ("llama3.2_guard_1b", 1, 1_498_482_688, "Llama Guard 3 1B, 16 layers, for unsafe content"))),
    ("mistral", "keras/mistral/keras", "pretrained", _APACHE, (
        ("mistral_7b_en", 8, 7_241_732_096, "Mistral 7B, 32 layers"),
        ("mistral_0.3_7b_en", 1, 7_248_023_552, "Mistral 7B 0.3, 32 layers"))),
    ("mistral", "keras/mistral/keras", "instruct", _APACHE, (
        ("mistral_instruct_7b_en", 8, 7_241_732_096, "Mistral 7B, 32 layers, instruction-tuned"),
        ("mistral_0.2_instruct_7b_en", 3, 7_241_732_096, "Mistral 7B 0.2, 32 layers, instruction-tuned"),
        ("mistral_0.3_instruct_7b_en", 1, 7_248_023_552, "Mistral 7B 0.3, 32 layers, instruction-tuned"))),
    ("mistral", "keras/magistral/keras", "reasoning", _APACHE, (
        ("magistral_small_2506_en", 1, 23_572_403_200, "Magistral Small of June 2025, 24B, 40 layers"),
        ("magistral_small_2507_en", 1, 23_572_403_200, "Magistral Small of July 2025, 24B, 40 layers"))),
    ("mixtral", "keras/mixtral/keras", "pretrained", _APACHE, (
        ("mixtral_8_7b_en", 4, 46_702_792_704, "Mixtral 8x7B, 32 layers of 8 experts"),)),
    ("mixtral", "keras/mixtral/keras", "instruct", _APACHE, (
        ("mixtral_8_instruct_7b_en", 4, 46_702_792_704, "Mixtral 8x7B, 32 layers of 8 experts, instruction-tuned"),)),
    ("phi3", "keras/phi3/keras", "instruct", _MIT, (
        ("phi3_mini_4k_instruct_en", 2, 3_821_079_552, "Phi-3 mini, 32 layers, up to 4096 tokens"),
        ("phi3_mini_128k_instruct_en", 2, 3_821_079_552, "Phi-3 mini, 32 layers, up to 131072 tokens"))),
    ("qwen", "keras/qwen/keras", "pretrained", _APACHE, (
        ("qwen2.5_0.5b_en", 1, 494_032_768, "Qwen2.5 0.5B, 24 layers"),
        ("qwen2.5_7b_en", 3, 7_615_616_512, "Qwen2.5 7B, 28 layers"))),
    ("qwen", "keras/qwen/keras", "pretrained", _RESEARCH, (
        ("qwen2.5_3b_en", 1, 3_085_938_688, "Qwen2.5 3B, 36 layers"),)),
    ("qwen", "keras/qwen/keras", "instruct", _APACHE, (
        ("qwen2.5_instruct_0.5b_en", 1, 494_032_768, "Qwen2.5 0.5B, 24 layers, instruction-tuned"),
        ("qwen2.5_instruct_32b_en", 2, 32_763_876_352, "Qwen2.5 32B, 64 layers, instruction-tuned"))),
    ("qwen", "keras/qwen/keras", "instruct", _QWEN, (
        ("qwen2.5_instruct_72b_en", 2, 72_706_203_648, "Qwen2.5 72B, 80 layers, instruction-tuned"),)),
    ("qwen", "keras/qwen2-5-coder/keras", "code", _APACHE, (
        ("qwen2.5_coder_0.5b", 1, 494_032_768, "Qwen2.5 Coder 0.5B, 24 layers"),
        ("qwen2.5_coder_1.5b", 1, 1_543_714_304, "Qwen2.5 Coder 1.5B, 28 layers"),
        ("qwen2.5_coder_7b", 1, 7_615_616_512, "Qwen2.5 Coder 7B, 28 layers"),
        ("qwen2.5_coder_14b", 1, 14_770_033_664, "Qwen2.5 Coder 14B, 48 layers"),
        ("qwen2.5_coder_32b", 1, 32_763_876_352, "Qwen2.5 Coder 32B, 64 layers"),
        ("qwen2.5_coder_instruct_0.5b", 1, 494_032_768, "Qwen2.5 Coder 0.5B, 24 layers, instruction-tuned"),
        ("qwen2.5_coder_instruct_1.5b", 1, 1_543_714_304, "Qwen2.5 Coder 1.5B, 28 layers, instruction-tuned"),
        ("qwen2.5_coder_instruct_7b", 1, 7_615_616_512, "Qwen2.5 Coder 7B, 28 layers, instruction-tuned"),
        ("qwen2.5_coder_instruct_14b", 1, 14_770_033_664, "Qwen2.5 Coder 14B, 48 layers, instruction-tuned"),
        ("qwen2.5_coder_instruct_32b", 1, 32_763_876_352, "Qwen2.5 Coder 32B, 64 layers, instruction-tuned"))),
    ("qwen", "keras/qwen2-5-coder/keras", "code", _RESEARCH, (
        ("qwen2.5_coder_3b", 1, 3_085_938_688, "Qwen2.5 Coder 3B, 36 layers"),
        ("qwen2.5_coder_instruct_3b", 1, 3_085_938_688, "Qwen2.5 Coder 3B, 36 layers, instruction-tuned"))),
    ("qwen", "keras/qwen2-5-math/keras", "math", _APACHE, (
        ("qwen2.5_math_1.5b_en", 1, 1_543_714_304, "Qwen2.5 Math 1.5B, 28 layers"),
        ("qwen2.5_math_instruct_1.5b_en", 1, 1_543_714_304, "Qwen2.5 Math 1.5B, 28 layers, instruction-tuned"),
        ("qwen2.5_math_7b_en", 1, 7_615_616_512, "Qwen2.5 Math 7B, 28 layers"),
        ("qwen2.5_math_instruct_7b_en", 1, 7_615_616_512, "Qwen2.5 Math 7B, 28 layers, instruction-tuned"))),
    ("qwen3", "keras/qwen-3/keras", "pretrained", _APACHE, (
        ("qwen3_0.6b_en", 1, 596_049_920, "Qwen3 0.6B, 28 layers"),
        ("qwen3_1.7b_en", 1, 1_720_574_976, "Qwen3 1.7B, 28 layers"),
        ("qwen3_4b_en", 1, 4_022_468_096, "Qwen3 4B, 36 layers"),
        ("qwen3_8b_en", 1, 8_190_735_360, "Qwen3 8B, 36 layers"),
        ("qwen3_14b_en", 1, 14_768_307_200, "Qwen3 14B, 40 layers"),
        ("qwen3_32b_en", 1, 32_762_123_264, "Qwen3 32B, 64 layers"))),
    ("qwen3", "keras/qwen-3-embedding/keras", "embedding", _APACHE, (
        ("qwen3_embedding_0.6b_en", 1, 595_776_512, "Qwen3 0.6B, 28 layers, vectors of text"),
        ("qwen3_embedding_4b_en", 1, 4_021_774_336, "Qwen3 4B, 36 layers, vectors of text"),
        ("qwen3_embedding_8b_en", 1, 8_188_515_328, "Qwen3 8B, 36 layers, vectors of text"))),
    ("qwen3", "keras/harrier/keras", "embedding", _SEE, (
        ("harrier_embedding_oss_0.6b", 1, 596_049_920, "Harrier on Qwen3 0.6B, 28 layers, vectors, 90 languages"),)),
    ("qwen_moe", "keras/qwen-1.5-moe/Keras", "pretrained", _TONGYI, (
        ("qwen1.5_moe_2.7b_en", 4, 14_315_784_192, "Qwen1.5 MoE, 24 layers of 60 experts, 2.7B of 14B in use"),)),
    ("qwen3_moe", "keras/qwen-3-moe/keras", "pretrained", _APACHE, (
        ("qwen3_moe_30b_a3b_en", 2, 30_532_122_624, "Qwen3 MoE, 48 layers of 128 experts, 3B of 30B in use"),
        ("qwen3_moe_235b_a22b_en", 1, 235_093_634_560, "Qwen3 MoE, 94 layers of 128 experts, 22B of 235B in use"))),
    ("qwen3_moe", "keras/qwen3-coder/keras", "code", _APACHE, (
        ("qwen3_coder_instruct_30b_a3b_en", 1, 30_532_122_624, "Qwen3 Coder, 48 layers, instruction-tuned"),)),
    ("gemma", "keras/gemma/keras", "pretrained", _GEMMA, (
        ("gemma_2b_en", 3, 2_506_172_416, "Gemma 2B, 18 layers"),
        ("gemma_7b_en", 4, 8_537_680_896, "Gemma 7B, 28 layers"))),
    ("gemma", "keras/gemma/keras", "instruct", _GEMMA, (
        ("gemma_instruct_2b_en", 3, 2_506_172_416, "Gemma 2B, 18 layers, instruction-tuned"),
        ("gemma_1.1_instruct_2b_en", 4, 2_506_172_416, "Gemma 1.1 2B, 18 layers, instruction-tuned"),
        ("gemma_instruct_7b_en", 4, 8_537_680_896, "Gemma 7B, 28 layers, instruction-tuned"),
        ("gemma_1.1_instruct_7b_en", 5, 8_537_680_896, "Gemma 1.1 7B, 28 layers, instruction-tuned"))),
    ("gemma", "keras/codegemma/keras", "code", _GEMMA, (
        ("code_gemma_2b_en", 2, 2_506_172_416, "CodeGemma 2B, 18 layers"),
        ("code_gemma_1.1_2b_en", 2, 2_506_172_416, "CodeGemma 1.1 2B, 18 layers"),
        ("code_gemma_7b_en", 3, 8_537_680_896, "CodeGemma 7B, 28 layers"),
        ("code_gemma_instruct_7b_en", 3, 8_537_680_896, "CodeGemma 7B, 28 layers, instruction-tuned"),
        ("code_gemma_1.1_instruct_7b_en", 3, 8_537_680_896, "CodeGemma 1.1 7B, 28 layers, instruction-tuned"))),
    ("gemma", "keras/gemma2/keras", "pretrained", _GEMMA, (
        ("gemma2_2b_en", 2, 2_614_341_888, "Gemma 2 2B, 26 layers"),
        ("gemma2_9b_en", 4, 9_241_705_984, "Gemma 2 9B, 42 layers"),
        ("gemma2_27b_en", 3, 27_227_128_320, "Gemma 2 27B, 46 layers"))),
    ("gemma", "keras/gemma2/keras", "instruct", _GEMMA, (
        ("gemma2_instruct_2b_en", 2, 2_614_341_888, "Gemma 2 2B, 26 layers, instruction-tuned"),
        ("gemma2_instruct_9b_en", 4, 9_241_705_984, "Gemma 2 9B, 42 layers, instruction-tuned"),
        ("gemma2_instruct_27b_en", 3, 27_227_128_320, "Gemma 2 27B, 46 layers, instruction-tuned"))),
    ("gemma", "google/shieldgemma/keras", "safety", _GEMMA, (
        ("shieldgemma_2b_en", 2, 2_614_341_888, "ShieldGemma 2B, 26 layers, for unsafe content"),
        ("shieldgemma_9b_en", 2, 9_241_705_984, "ShieldGemma 9B, 42 layers, for unsafe content"),
        ("shieldgemma_27b_en", 2, 27_227_128_320, "ShieldGemma 27B, 46 layers, for unsafe content"))),
    ("gemma", "keras/vaultgemma/keras", "pretrained", _GEMMA, (
        ("vault_gemma_1b_en", 2, 1_038_741_120, "VaultGemma 1B, 26 layers, trained with differential privacy"),)),
    ("gemma", "keras/cell2sentence/keras", "cells", _SEE, (
        ("c2s_scale_gemma_2_2b_en", 1, 2_614_341_888, "Gemma 2 2B, 26 layers, trained on gene lists of cells"),
        ("c2s_scale_gemma_2_27b_en", 1, 27_227_128_320, "Gemma 2 27B, 46 layers, trained on genes of cells"))),
    ("gemma3", "keras/gemma3/keras", "pretrained", _GEMMA, (
        ("gemma3_270m", 3, 268_098_176, "Gemma 3 270M, 18 layers"),
        ("gemma3_1b", 3, 999_885_952, "Gemma 3 1B, 26 layers"),
        ("gemma3_4b_text", 2, 3_880_099_328, "Gemma 3 4B, 34 layers"),
        ("gemma3_12b_text", 3, 11_765_788_416, "Gemma 3 12B, 48 layers"),
        ("gemma3_27b_text", 4, 27_009_002_240, "Gemma 3 27B, 62 layers"))),
    ("gemma3", "keras/gemma3/keras", "instruct", _GEMMA, (
        ("gemma3_instruct_270m", 4, 268_098_176, "Gemma 3 270M, 18 layers, instruction-tuned"),
        ("gemma3_instruct_1b", 3, 999_885_952, "Gemma 3 1B, 26 layers, instruction-tuned"),
        ("gemma3_instruct_4b_text", 3, 3_880_099_328, "Gemma 3 4B, 34 layers, instruction-tuned"),
        ("gemma3_instruct_12b_text", 3, 11_765_788_416, "Gemma 3 12B, 48 layers, instruction-tuned"),
        ("gemma3_instruct_27b_text", 3, 27_009_002_240, "Gemma 3 27B, 62 layers, instruction-tuned"))),
    ("gemma3", "keras/medgemma/keras", "medical", _HEALTH, (
        ("medgemma_instruct_27b_text", 1, 27_009_002_240, "MedGemma 27B, 62 layers, for medical text"),)),
    ("gemma3", "keras/function-gemma/keras", "functions", _GEMMA, (
        ("function_gemma_instruct_270m", 1, 268_098_176, "FunctionGemma 270M, 18 layers, tuned to call functions"),)),
    ("gemma3", "keras/embeddinggemma/keras", "embedding", _GEMMA, (
        ("embedding_gemma3_300m", 2, 302_863_104, "EmbeddingGemma 300M, 24 layers, bidirectional, vectors of text"),)),
    ("gemma3", "keras/harrier/keras", "embedding", _SEE, (
        ("harrier_embedding_oss_270m", 1, 268_098_176, "Harrier on Gemma 3 270M, 18 layers, vectors, 90 languages"),)),
    ("gpt_oss", "keras/gpt-oss/keras", "pretrained", _APACHE, (
        ("gpt_oss_20b_en", 1, 20_914_757_184, "gpt-oss 20B, 24 layers of 32 experts, 3.6B in use"),
        ("gpt_oss_120b_en", 1, 116_829_156_672, "gpt-oss 120B, 36 layers of 128 experts, 5.1B in use"))),
    ("gpt_oss", "keras/gpt-oss-safeguard/keras", "safety", _APACHE, (
        ("gpt_oss_safeguard_20b_en", 1, 20_914_757_184, "gpt-oss-safeguard 20B, 24 layers, for unsafe content"),
        ("gpt_oss_safeguard_120b_en", 1, 116_829_156_672, "gpt-oss-safeguard 120B, 36 layers, for unsafe content"))),
    ("smollm3", "keras/smollm3/keras", "pretrained", _APACHE, (
        ("smollm3_3b_en", 1, 3_075_100_928, "SmolLM3 3B, 36 layers"),)),
    ("t5", "keras/t5/keras", "pretrained", _APACHE, (
        ("t5_small_multi", 3, 60_506_624, "T5, 6 and 6 layers of 512"),
        ("t5_base_multi", 3, 222_903_552, "T5, 12 and 12 layers of 768"),
        ("t5_large_multi", 3, 737_668_096, "T5, 24 and 24 layers of 1024"),
        ("t5_1.1_small", 2, 60_511_616, "T5 1.1, 8 and 8 layers of 512"),
        ("t5_1.1_base", 2, 247_577_856, "T5 1.1, 12 and 12 layers of 768"),
        ("t5_1.1_large", 2, 750_251_008, "T5 1.1, 24 and 24 layers of 1024"),
        ("t5_1.1_xl", 2, 2_849_757_184, "T5 1.1, 24 and 24 layers of 2048"),
        ("t5_1.1_xxl", 2, 11_135_332_352, "T5 1.1, 24 and 24 layers of 4096"))),
    ("t5", "keras/t5/keras", "instruct", _APACHE, (
        ("flan_small_multi", 3, 76_961_152, "Flan-T5, 8 and 8 layers of 512, tuned on many tasks"),
        ("flan_base_multi", 3, 247_577_856, "Flan-T5, 12 and 12 layers of 768, tuned on many tasks"),
        ("flan_large_multi", 3, 783_150_080, "Flan-T5, 24 and 24 layers of 1024, tuned on many tasks"))),
    ("bart", "keras/bart/keras", "pretrained", _APACHE, (
        ("bart_base_en", 3, 139_417_344, "BART, 6 and 6 layers of 768, English"),
        ("bart_large_en", 3, 406_287_360, "BART, 12 and 12 layers of 1024, English"))),
    ("bart", "keras/bart/keras", "cnn", _APACHE, (
        ("bart_large_en_cnn", 3, 406_287_360, "BART, 12 and 12 layers of 1024, tuned to summarise news"),)),
    ("t5gemma", "keras/t5-gemma/keras", "pretrained", _GEMMA, (
        ("t5gemma_s_s_ul2", 1, 312_517_632, "T5Gemma S-S, adapted by UL2"),
        ("t5gemma_s_s_prefixlm", 1, 312_517_632, "T5Gemma S-S, adapted by PrefixLM"),
        ("t5gemma_b_b_ul2", 1, 591_490_560, "T5Gemma B-B, adapted by UL2"),
        ("t5gemma_b_b_prefixlm", 1, 591_490_560, "T5Gemma B-B, adapted by PrefixLM"),
        ("t5gemma_l_l_ul2", 1, 1_241_761_792, "T5Gemma L-L, adapted by UL2"),
        ("t5gemma_l_l_prefixlm", 1, 1_241_761_792, "T5Gemma L-L, adapted by PrefixLM"),
        ("t5gemma_ml_ml_ul2", 1, 2_200_345_344, "T5Gemma ML-ML, adapted by UL2"),
        ("t5gemma_ml_ml_prefixlm", 1, 2_200_345_344, "T5Gemma ML-ML, adapted by PrefixLM"),
        ("t5gemma_xl_xl_ul2", 1, 3_766_980_608, "T5Gemma XL-XL, adapted by UL2"),
        ("t5gemma_xl_xl_prefixlm", 1, 3_766_980_608, "T5Gemma XL-XL, adapted by PrefixLM"),
        ("t5gemma_2b_2b_ul2", 1, 5_596_853_760, "T5Gemma 2B-2B, adapted by UL2"),
        ("t5gemma_2b_2b_prefixlm", 1, 5_596_853_760, "T5Gemma 2B-2B, adapted by PrefixLM"),
        ("t5gemma_9b_2b_ul2", 1, 12_292_375_296, "T5Gemma 9B-2B, adapted by UL2"),
        ("t5gemma_9b_2b_prefixlm", 1, 12_292_375_296, "T5Gemma 9B-2B, adapted by PrefixLM"),
        ("t5gemma_9b_9b_ul2", 1, 20_333_401_088, "T5Gemma 9B-9B, adapted by UL2"),
        ("t5gemma_9b_9b_prefixlm", 1, 20_333_401_088, "T5Gemma 9B-9B, adapted by PrefixLM"))),
    ("t5gemma", "keras/t5-gemma/keras", "instruct", _GEMMA, (
        ("t5gemma_s_s_ul2_it", 1, 312_517_632, "T5Gemma S-S, adapted by UL2, instruction-tuned"),
        ("t5gemma_s_s_prefixlm_it", 1, 312_517_632, "T5Gemma S-S, adapted by PrefixLM, instruction-tuned"),
        ("t5gemma_b_b_ul2_it", 1, 591_490_560, "T5Gemma B-B, adapted by UL2, instruction-tuned"),
        ("t5gemma_b_b_prefixlm_it", 1, 591_490_560, "T5Gemma B-B, adapted by PrefixLM, instruction-tuned"),
        ("t5gemma_l_l_ul2_it", 1, 1_241_761_792, "T5Gemma L-L, adapted by UL2, instruction-tuned"),
        ("t5gemma_l_l_prefixlm_it", 1, 1_241_761_792, "T5Gemma L-L, adapted by PrefixLM, instruction-tuned"),
        ("t5gemma_ml_ml_ul2_it", 1, 2_200_345_344, "T5Gemma ML-ML, adapted by UL2, instruction-tuned"),
        ("t5gemma_ml_ml_prefixlm_it", 1, 2_200_345_344, "T5Gemma ML-ML, adapted by PrefixLM, instruction-tuned"),
        ("t5gemma_xl_xl_ul2_it", 1, 3_766_980_608, "T5Gemma XL-XL, adapted by UL2, instruction-tuned"),
        ("t5gemma_xl_xl_prefixlm_it", 1, 3_766_980_608, "T5Gemma XL-XL, adapted by PrefixLM, instruction-tuned"),
        ("t5gemma_2b_2b_ul2_it", 1, 5_596_853_760, "T5Gemma 2B-2B, adapted by UL2, instruction-tuned"),
        ("t5gemma_2b_2b_prefixlm_it", 1, 5_596_853_760, "T5Gemma 2B-2B, adapted by PrefixLM, instruction-tuned"),
        ("t5gemma_9b_2b_ul2_it", 1, 12_292_375_296, "T5Gemma 9B-2B, adapted by UL2, instruction-tuned"),
        ("t5gemma_9b_2b_prefixlm_it", 1, 12_292_375_296, "T5Gemma 9B-2B, adapted by PrefixLM, instruction-tuned"),
        ("t5gemma_9b_9b_ul2_it", 1, 20_333_401_088, "T5Gemma 9B-9B, adapted by UL2, instruction-tuned"),
        ("t5gemma_9b_9b_prefixlm_it", 1, 20_333_401_088, "T5Gemma 9B-9B, adapted by PrefixLM, instruction-tuned"))),
)  # fmt: skip


def presets() -> list[Preset]:
    """All presets, in the order of the table."""
    return [
        Preset(name, family, f"kaggle://{path}/{name}/{version}", data, licence, parameters, f"{words}.")
        for family, path, data, licence, rows in _TABLE
        for name, version, parameters, words in rows
    ]
