"""
The checkpoint `nano`, from nothing but arithmetic: `python -m training.nano codec|train|assemble|evaluate`.

    words, tokenizer     what a prompt's words mean: some thousand words, some two hundred concepts
    plan                 what a piece is asked to be, and the concepts that say so
    pulse, keys          tempi and metre; keys, degrees, progressions
    composer             a plan → codes, four for each frame of 20 ms
    codes                what each code means: a silent state, or a musical event
    timbres, codec       what each code sounds like; EnCodec's decoder, computed instead of trained
    model, train         text encoder and language model, trained on endless pieces
    assemble             a training state → the checkpoint's folder
    prompts, audio_analysis, classifiers, code_analysis,
                         prompts nobody trained on; attributes read from sound and codes;
    evaluate             one table with confidence intervals
"""
